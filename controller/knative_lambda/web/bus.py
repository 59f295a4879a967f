"""Counts what is published, around whichever bus wiring chose."""

from __future__ import annotations

from collections.abc import Sequence

from knative_lambda.api.events import Event
from knative_lambda.events.base import Bus
from knative_lambda.kit.clock import Clock
from knative_lambda.web.metrics import Metrics


class MeasuredBus:
    """A Bus in front of another one."""

    def __init__(self, bus: Bus, metrics: Metrics, *, clock: Clock) -> None:
        self._bus = bus
        self._metrics = metrics
        self._clock = clock

    @property
    def connected(self) -> bool:
        return self._bus.connected

    @property
    def problem(self) -> str:
        return self._bus.problem

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:
        """As the port says. Each event is given the seconds of the whole batch, for that is how long it took."""
        started = self._clock.monotonic()
        unconfirmed = await self._bus.publish(events)
        seconds = self._clock.monotonic() - started
        lost = {event.id for event in unconfirmed}
        for event in events:
            self._metrics.event_processed(event.type, event.source, is_ok=event.id not in lost, seconds=seconds)
        return unconfirmed

    async def start(self) -> None:
        await self._bus.start()

    async def close(self) -> None:
        await self._bus.close()
