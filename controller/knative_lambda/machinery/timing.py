"""Time limits that follow a Clock, and Kubernetes' MicroTime. Used by every module of machinery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from typing import TypeVar

from knative_lambda.kit.clock import Clock

T = TypeVar("T")

SLICE = 100
SLICE_SECONDS = 0.004
"""Items, and seconds, after which a long loop lets other callbacks have their turn: none may take over 10 ms."""
TICK = 1e-6
"""Seconds; moments that are closer than this are one moment, so that rounding never makes a sleep of nothing."""


async def within(clock: Clock, seconds: float, work: Awaitable[T]) -> T:
    """Awaits `work` in the caller's own task; cancels it and raises TimeoutError when it takes longer.

    asyncio.timeout measures by the loop's clock; this one by ours, so that a test decides when time is up.
    """
    async with asyncio.timeout(None) as scope:
        alarm = asyncio.create_task(_expire(clock, seconds, scope))
        try:
            return await work
        finally:
            alarm.cancel()


async def _expire(clock: Clock, seconds: float, scope: asyncio.Timeout) -> None:
    await clock.sleep(seconds)
    expire(scope)


def expire(scope: asyncio.Timeout) -> None:
    """Ends a timeout scope at the next turn of the loop; once it is ending, nothing more happens."""
    if scope.when() is None:
        scope.reschedule(asyncio.get_running_loop().time())


class Pace:
    """Makes a long loop stop for breath; its owner awaits `step` after each item."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._items = 0

    async def step(self) -> None:
        """Usually nothing; lets the loop turn once after every slice."""
        self._items += 1
        if self._items < SLICE and self._clock.monotonic() - self._began < SLICE_SECONDS:
            return
        await asyncio.sleep(0)
        self._items = 0
        self._began = self._clock.monotonic()


def micro_time(moment: datetime) -> str:
    """RFC 3339 with six digits, as Kubernetes writes metav1.MicroTime."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
