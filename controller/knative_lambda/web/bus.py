"""Counts what is published, around whichever bus wiring chose."""

from __future__ import annotations

from collections.abc import Sequence

from knative_lambda.api.events import Event
from knative_lambda.events.base import Bus
from knative_lambda.events.front import FrontBus
from knative_lambda.kit.clock import Clock
from knative_lambda.web.metrics import Metrics


class MeasuredBus(FrontBus):
    """How many events, of which types, and how long they took."""

    def __init__(self, bus: Bus, metrics: Metrics, *, clock: Clock) -> None:
        super().__init__(bus)
        self._metrics = metrics
        self._clock = clock

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:
        """As the port says. Each event is given the seconds of the whole batch, for that is how long it took."""
        started = self._clock.monotonic()
        unconfirmed = await super().publish(events)
        seconds = self._clock.monotonic() - started
        lost = {event.id for event in unconfirmed}
        for event in events:
            self._metrics.event_processed(event.type, event.source, is_ok=event.id not in lost, seconds=seconds)
        return unconfirmed
