"""Lifecycle events on their way to the bus, heard by a screen. Made by dev."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from knative_lambda.api.events import Event
from knative_lambda.events.base import Bus

KEPT = 1000
"""Events that nobody has looked at; more push out the oldest."""


class HeardBus:
    """A Bus in front of another one."""

    def __init__(self, bus: Bus) -> None:
        self.heard: asyncio.Queue[Event] = asyncio.Queue(KEPT)
        self._bus = bus

    @property
    def connected(self) -> bool:
        return self._bus.connected

    @property
    def problem(self) -> str:
        return self._bus.problem

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:
        """As the port says. What comes again because it was not confirmed is heard once, when it is."""
        unconfirmed = await self._bus.publish(events)
        lost = {event.id for event in unconfirmed}
        for event in events:
            if event.id not in lost:
                self._tell(event)
        return unconfirmed

    async def start(self) -> None:
        await self._bus.start()

    async def close(self) -> None:
        await self._bus.close()

    def _tell(self, event: Event) -> None:
        if self.heard.full():
            self.heard.get_nowait()
        self.heard.put_nowait(event)
