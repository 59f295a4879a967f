"""The token bucket on a clock that stands still: order, burst, and tokens of those who gave up."""

from __future__ import annotations

import asyncio
import math

import pytest

from knative_lambda.cluster.limits import TokenBucket
from knative_lambda.kit.clock import ManualClock

pytestmark = pytest.mark.unit


async def arrivals(bucket: TokenBucket, clock: ManualClock, count: int) -> list[tuple[int, float]]:
    """(caller, time) in the order in which they were let through."""
    seen: list[tuple[int, float]] = []

    async def call(number: int) -> None:
        await bucket.take()
        seen.append((number, round(clock.monotonic(), 3)))

    tasks = [asyncio.create_task(call(number)) for number in range(count)]
    await clock.advance(10)
    await asyncio.gather(*tasks)
    return seen


async def test_a_burst_passes_and_the_rest_comes_in_order_at_the_rate() -> None:
    clock = ManualClock()
    seen = await arrivals(TokenBucket(rate=10, burst=3, clock=clock), clock, 6)
    assert seen == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.1), (4, 0.2), (5, 0.3)]


async def test_idle_time_refills_no_more_than_the_burst() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate=10, burst=2, clock=clock)
    await arrivals(bucket, clock, 2)
    await clock.advance(1000)
    start = clock.monotonic()
    seen = await arrivals(bucket, clock, 3)
    assert [round(at - start, 3) for _, at in seen] == [0.0, 0.0, 0.1]


@pytest.mark.parametrize("rate", [0, -1, math.inf])
async def test_no_rate_is_no_limit(rate: float) -> None:
    clock = ManualClock()
    seen = await arrivals(TokenBucket(rate=rate, burst=1, clock=clock), clock, 50)
    assert {at for _, at in seen} == {0.0}


async def test_who_gives_up_leaves_the_token_to_the_next() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate=1, burst=1, clock=clock)
    await bucket.take()
    waiting = asyncio.create_task(bucket.take())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    late = asyncio.create_task(bucket.take())
    await clock.advance(1)
    assert late.done()
    await late
