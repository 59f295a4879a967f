"""Announces functions that were deleted before they had our finalizer.

Their last events cannot wait in a status that is gone, so they wait here, in memory, until RabbitMQ has them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from knative_lambda.api.events import Event
from knative_lambda.api.meta import Key
from knative_lambda.events.base import Bus
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.reconcile.transitions import vanished
from knative_lambda.resources.observed import FunctionSeen

LIMIT = 10_000
"""Events that wait; more push out the oldest."""
RETRIES = Backoff(base=0.5, cap=30.0)


class Farewell:
    """`heard` is a handler of the functions' informer, `run` one of the process's services."""

    def __init__(self, bus: Bus, *, clock: Clock, is_leader: Callable[[], bool]) -> None:
        self._bus = bus
        self._clock = clock
        self._is_leader = is_leader
        self._waiting: deque[Event] = deque(maxlen=LIMIT)
        self._work = asyncio.Event()

    def waiting(self) -> list[str]:
        """Types of the events that RabbitMQ does not have yet."""
        return [event.type for event in self._waiting]

    def heard(self, _key: Key, old: FunctionSeen | None, new: FunctionSeen | None) -> None:
        """Only the leader tells: every replica sees the deletion."""
        if old is None or new is not None or not self._is_leader():
            return
        self._waiting.extend(vanished(old, self._clock.now()))
        if self._waiting:
            self._work.set()

    async def run(self) -> None:
        """Until cancelled; call `drain` afterwards."""
        attempt = 0
        while True:
            await self._work.wait()
            attempt = 0 if await self._publish() else attempt + 1
            if attempt:
                await self._clock.sleep(RETRIES.delay(attempt - 1))

    async def drain(self) -> None:
        """One last try for what waits."""
        await self._publish()

    async def _publish(self) -> bool:
        """Whether everything is with RabbitMQ."""
        self._work.clear()
        events = list(self._waiting)
        unconfirmed = {event.id for event in await self._bus.publish(events)} if events else set()
        for event in events:
            if event.id not in unconfirmed:
                self._waiting.remove(event)
        if self._waiting:
            self._work.set()
        return not unconfirmed
