"""A bus in front of another one: what those that count, or listen, have in common. Extended by web and local mode."""

from __future__ import annotations

from collections.abc import Sequence

from knative_lambda.api.events import Event
from knative_lambda.events.base import Bus


class FrontBus:
    """Passes everything on, as the port says."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    @property
    def connected(self) -> bool:
        return self._bus.connected

    @property
    def problem(self) -> str:
        return self._bus.problem

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:
        return await self._bus.publish(events)

    async def start(self) -> None:
        await self._bus.start()

    async def close(self) -> None:
        await self._bus.close()
