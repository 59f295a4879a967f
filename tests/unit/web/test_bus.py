"""Counting what is published changes nothing about it."""

from __future__ import annotations

from knative_lambda.api.events import SOURCE, Event
from knative_lambda.events.memory import MemoryBus
from knative_lambda.web.bus import MeasuredBus
from tests.gen import NOW

from .desk import Desk

TOTAL = "operator_event_processing_total"


def event(number: int) -> Event:
    return Event(f"id-{number}", "lambda.build.started", SOURCE, NOW, {"build_id": "b"})


async def test_confirmed_and_unconfirmed_events_are_counted_apart() -> None:
    desk, inner = Desk(), MemoryBus()
    bus = MeasuredBus(inner, desk.metrics, clock=desk.clock)
    inner.lose_confirms(1)
    assert await bus.publish([event(1), event(2), event(3)]) == (event(1),)
    assert inner.published == [event(1), event(2), event(3)]
    assert await desk.value(TOTAL, event_type="lambda.build.started", source=SOURCE, result="success") == 2
    assert await desk.value(TOTAL, event_type="lambda.build.started", source=SOURCE, result="failure") == 1
    assert await desk.value("operator_event_processing_duration_seconds_count") == 3


async def test_the_state_of_the_bus_shows_through() -> None:
    desk, inner = Desk(), MemoryBus()
    bus = MeasuredBus(inner, desk.metrics, clock=desk.clock)
    await bus.start()
    assert bus.connected
    await bus.close()
    assert not bus.connected
    assert bus.problem == inner.problem != ""
