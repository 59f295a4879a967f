"""The twin's own levers; what it shares with RabbitMQ is in tests/contract/test_bus.py."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from knative_lambda.api.events import Event
from knative_lambda.events.encoding import InvalidEvent
from knative_lambda.events.memory import MemoryBus
from knative_lambda.events.none import NoBus


def event(number: int, kind: str = "lambda.build.started") -> Event:
    return Event(id=f"id-{number}", type=kind, source="/s", time=datetime(2026, 1, 1, tzinfo=UTC), data={"n": number})


async def test_lost_confirms_arrive_and_are_returned() -> None:
    bus = MemoryBus()
    bus.lose_confirms(2)
    events = [event(number) for number in range(3)]
    assert list(await bus.publish(events)) == events[:2]
    assert bus.published == events


async def test_disconnected_before_start_stays_disconnected() -> None:
    bus = MemoryBus()
    bus.disconnect()
    await bus.start()
    assert (bus.connected, bool(bus.problem)) == (False, True)
    assert list(await bus.publish([event(1)])) == [event(1)]
    assert bus.published == []


async def test_only_the_newest_events_are_kept() -> None:
    bus = MemoryBus(keep=2)
    await bus.publish([event(number) for number in range(3)])
    assert bus.published == [event(1), event(2)]


async def test_subscriber_hears_only_its_pattern_until_it_leaves() -> None:
    bus = MemoryBus()
    heard: list[str] = []
    leave = bus.subscribe(lambda one: heard.append(one.id), "lambda.build.*")
    await bus.publish([event(1), event(2, "lambda.service.created")])
    leave()
    await bus.publish([event(3)])
    assert heard == ["id-1"]


async def test_a_failing_subscriber_hurts_nobody_else() -> None:
    bus = MemoryBus()
    heard: list[str] = []

    def fail(_: Event) -> None:
        raise RuntimeError("of the subscriber")

    bus.subscribe(fail)
    bus.subscribe(lambda one: heard.append(one.id))
    assert list(await bus.publish([event(1)])) == []
    assert heard == ["id-1"]


async def test_an_event_that_is_none_is_refused_as_by_rabbitmq() -> None:
    with pytest.raises(InvalidEvent):
        await MemoryBus().publish([Event(id="", type="t", source="s", time=datetime(2026, 1, 1, tzinfo=UTC), data={})])


async def test_no_bus_confirms_everything() -> None:
    bus = NoBus()
    await bus.start()
    assert bus.connected
    assert not bus.problem
    assert list(await bus.publish([event(1)])) == []
    await bus.close()
