"""What a screen hears: lifecycle events on their way to the bus, and what the broker does with events. Made by dev."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from knative_lambda.api.events import Event
from knative_lambda.events.base import Bus
from knative_lambda.events.front import FrontBus
from knative_lambda.kit.clock import Clock
from knative_lambda.local.messaging.delivery import Notice

KEPT = 1000
"""Things that nobody has looked at; more push out the oldest."""
LOOK_SECONDS = 1.0
"""Between looks at the bus; what lasts two of them is told."""


@dataclass(frozen=True, slots=True)
class Link:
    """How the bus does, when that is different from before."""

    problem: str
    """Why lifecycle events wait, without credentials; empty when they go out again."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that a person should know and that stops nobody."""

    subject: str
    """The function that it is about; empty for all of them."""
    text: str


News = Event | Notice | Link | Remark


class Heard:
    """For one listener."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[News] = asyncio.Queue(KEPT)

    def tell(self, news: News) -> None:
        """Never waits."""
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(news)

    async def next(self) -> News:
        """The oldest thing that was not heard yet."""
        return await self._queue.get()


class HeardBus(FrontBus):
    """Tells of every event that was confirmed."""

    def __init__(self, bus: Bus, heard: Heard) -> None:
        super().__init__(bus)
        self._heard = heard

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:
        """As the port says. What comes again because it was not confirmed is heard once, when it is."""
        unconfirmed = await super().publish(events)
        lost = {event.id for event in unconfirmed}
        for event in events:
            if event.id not in lost:
                self._heard.tell(event)
        return unconfirmed

    async def watch(self, *, clock: Clock) -> None:
        """Tells when the bus is away, and when it is there again. Until cancelled."""
        seen = told = ""
        while True:
            await clock.sleep(LOOK_SECONDS)
            problem = self.problem
            if problem != told and (problem == seen or not problem):
                told = problem
                self._heard.tell(Link(problem))
            seen = problem
