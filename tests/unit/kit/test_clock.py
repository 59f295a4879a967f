"""The manual clock stands still until it is told, and wakes sleepers in order."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, timedelta

from knative_lambda.kit.clock import ManualClock, SystemClock


async def test_sleepers_wake_in_the_order_of_their_time() -> None:
    clock, woken = ManualClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async with asyncio.TaskGroup() as tasks:
        for seconds in (30, 10, 20):
            tasks.create_task(sleep(seconds))
        await clock.advance(25)
        assert woken == [(10, 10), (20, 20)]
        await clock.advance(5)
    assert woken == [(10, 10), (20, 20), (30, 30)]


async def test_who_sleeps_again_on_the_way_is_woken_again() -> None:
    clock, ticks = ManualClock(), 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await clock.sleep(1)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await clock.advance(5)
    assert ticks == 5
    ticking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ticking


async def test_a_sleeper_that_gave_up_is_not_in_the_way() -> None:
    clock = ManualClock()
    sleeping = asyncio.create_task(clock.sleep(1))
    await clock.advance(0)
    sleeping.cancel()
    await clock.advance(2)
    assert sleeping.cancelled()
    assert clock.monotonic() == 2


async def test_wall_and_monotonic_time_go_together() -> None:
    clock = ManualClock()
    start = clock.now()
    await clock.advance(90)
    assert clock.now() - start == timedelta(seconds=90)
    assert clock.now().tzinfo is UTC


async def test_sleeping_no_time_lets_others_run_and_returns() -> None:
    clock = ManualClock()
    await clock.sleep(0)
    assert clock.monotonic() == 0


async def test_the_system_clock_is_utc_and_its_monotonic_time_never_goes_back() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() > before
    assert clock.now().tzinfo is UTC
