"""What a screen hears of lifecycle events, and of the RabbitMQ that they go to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from knative_lambda.api.events import Event
from knative_lambda.events.memory import MemoryBus
from knative_lambda.kit.clock import ManualClock
from knative_lambda.local import heard
from knative_lambda.local.heard import Heard, HeardBus, Link

CREATED = Event("id-1", "lambda.function.created", "/operator", datetime(2026, 1, 1, tzinfo=UTC), {})


class Room:
    """A bus, and who hears of it, on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock, self.behind, self.heard = ManualClock(), MemoryBus(), Heard()
        self.bus = HeardBus(self.behind, self.heard)

    async def looks(self, count: int) -> list[object]:
        """What is heard while the bus is looked at so many times."""
        for _ in range(count):
            await self.clock.advance(heard.LOOK_SECONDS)
        found: list[object] = []
        with contextlib.suppress(TimeoutError):
            while True:
                found.append(await asyncio.wait_for(self.heard.next(), 0.01))
        return found


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    watching = asyncio.create_task(room.bus.watch(clock=room.clock))
    await asyncio.sleep(0)
    yield room
    watching.cancel()


async def test_bus_that_is_away_is_told_once_with_the_reason_and_once_when_it_is_back(room: Room) -> None:
    assert await room.looks(5) == []
    room.behind.disconnect()
    assert await room.looks(1) == []
    assert await room.looks(5) == [Link(room.behind.problem)]
    room.behind.connect()
    assert await room.looks(5) == [Link("")]


async def test_bus_that_is_away_for_a_moment_is_not_worth_a_word(room: Room) -> None:
    room.behind.disconnect()
    assert await room.looks(1) == []
    room.behind.connect()
    assert await room.looks(5) == []


async def test_event_is_heard_when_it_is_confirmed(room: Room) -> None:
    room.behind.disconnect()
    assert list(await room.bus.publish([CREATED])) == [CREATED]
    assert await room.looks(0) == []
    room.behind.connect()
    assert list(await room.bus.publish([CREATED])) == []
    assert await room.looks(0) == [CREATED]
