"""Time limits by a clock of our own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.timing import micro_time, within

from .link import settle


async def _hang() -> None:
    await asyncio.get_running_loop().create_future()


async def test_work_that_takes_too_long_is_cancelled_on_time() -> None:
    clock = ManualClock()
    limited = asyncio.create_task(within(clock, 5, _hang()))
    await clock.advance(4.9)
    assert not limited.done()
    await clock.advance(0.2)
    with pytest.raises(TimeoutError):
        await limited


async def test_work_that_is_quick_gives_its_result_and_leaves_no_alarm() -> None:
    clock = ManualClock()

    async def quick() -> int:
        await clock.sleep(1)
        return 7

    limited = asyncio.create_task(within(clock, 5, quick()))
    await clock.advance(2)
    assert await limited == 7
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_callers_cancellation_is_not_taken_for_a_timeout() -> None:
    limited = asyncio.create_task(within(ManualClock(), 5, _hang()))
    await settle()
    limited.cancel()
    with pytest.raises(asyncio.CancelledError):
        await limited


def test_micro_time_has_six_digits_also_on_the_full_second() -> None:
    assert micro_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000000Z"
