"""A queue for each Trigger: events go in by their attributes, and out to the function, some at a time.

A slow or failing function fills its own queue and nobody else's. What is in memory of a queue is how many wait and
where the next one is; the events are in the backlog. Filled by ingress and by replies, changed by eventing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import structlog

from knative_lambda.api.meta import Key
from knative_lambda.events import encoding
from knative_lambda.events.encoding import Message
from knative_lambda.kit import redact
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.local.messaging import filters
from knative_lambda.local.messaging.backlog import Accepted, Backlog, BacklogError, BacklogFull
from knative_lambda.local.messaging.delivery import Reception, Route, Stopped

Deliver = Callable[[Route, Accepted], Awaitable[None]]

READING = Backoff(base=0.5, cap=30.0)
READ_AT_ONCE = 10

_log = structlog.get_logger(__name__)


class Lane:
    """One queue."""

    def __init__(self, route: Route, backlog: Backlog, deliver: Deliver, *, clock: Clock, waiting: int) -> None:
        """`waiting`: events that are there already. Begins to deliver at once."""
        self.route = route
        self.waiting = waiting
        self._backlog = backlog
        self._deliver = deliver
        self._clock = clock
        self._freed = asyncio.Event()
        self._filled = asyncio.Event()
        self._filled.set()
        self._last = 0
        self.tasks: set[asyncio.Task[None]] = set()
        """Deliveries under way."""
        self._reader = asyncio.create_task(self._read(), name=f"queue {route.trigger}")

    def change(self, route: Route) -> None:
        """For what is not under way yet."""
        self.route = route
        self._freed.set()

    def wake(self) -> None:
        """There is another event in the backlog."""
        self._filled.set()

    async def stop_reading(self) -> None:
        """Deliveries under way go on."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def close(self) -> None:
        """Ends everything at once."""
        await self.stop_reading()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _read(self) -> None:
        """No event is in memory before it can be delivered."""
        while True:
            await self._filled.wait()
            free = await self._free()
            self._filled.clear()
            for event in await self._next(free):
                self._last = event.number
                self._begin(event)
                self._filled.set()  # there may be more behind it

    async def _free(self) -> int:
        """How many more can be delivered at the same time; waits for the first."""
        while (free := self.route.parallelism - len(self.tasks)) <= 0:
            self._freed.clear()
            await self._freed.wait()
        return min(free, READ_AT_ONCE)

    async def _next(self, limit: int) -> list[Accepted]:
        attempt = 0
        while True:
            try:
                return await self._backlog.next(self.route.trigger, after=self._last, limit=limit)
            except BacklogError as error:
                _log.error("queue cannot be read", trigger=str(self.route.trigger), problem=str(error))
            await self._clock.sleep(READING.delay(attempt))
            attempt += 1

    def _begin(self, event: Accepted) -> None:
        task = asyncio.create_task(self._handle(event), name=f"deliver {self.route.trigger}")
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    async def _handle(self, event: Accepted) -> None:
        try:
            await self._deliver(self.route, event)
        except Stopped:
            return
        self.waiting -= 1
        try:
            await self._backlog.settle(self.route.trigger, event.number)
        except BacklogError as error:  # so that the next start delivers it again: at least once
            _log.error("delivered event stays on disk", trigger=str(self.route.trigger), problem=str(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._freed.set()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("delivery failed, its event waits for the next start", error=redact.text(repr(error)))


class Lanes:
    """All of them, by Trigger."""

    def __init__(self, backlog: Backlog, deliver: Deliver, *, clock: Clock, queue_length: int) -> None:
        """`queue_length`: events of one queue."""
        self._backlog = backlog
        self._deliver = deliver
        self._clock = clock
        self._queue_length = queue_length
        self._lanes: dict[Key, Lane] = {}
        self._found = dict(backlog.waiting)

    def waiting(self, trigger: Key) -> int:
        """Events of the queue that are not done with, also of one whose Trigger has not come back."""
        lane = self._lanes.get(trigger)
        return self._found.get(trigger, 0) if lane is None else lane.waiting

    def put(self, route: Route) -> None:
        """From now on events go this way. What waits goes it too, except for a delivery that has begun."""
        lane = self._lanes.get(route.trigger)
        if lane is not None:
            lane.change(route)
            return
        waiting = self._found.pop(route.trigger, 0)
        if waiting:
            _log.info("events of an earlier start are delivered", trigger=str(route.trigger), events=waiting)
        self._lanes[route.trigger] = Lane(
            route,
            self._backlog,
            self._deliver,
            clock=self._clock,
            waiting=waiting,
        )

    async def drop(self, trigger: Key) -> None:
        """The Trigger is gone, and with it its queue, as in RabbitMQ. Raises BacklogError."""
        lane = self._lanes.pop(trigger, None)
        if lane is not None:
            await lane.close()
        self._found.pop(trigger, None)
        lost = await self._backlog.forget(trigger)
        if lost:
            _log.warning("a Trigger went with events in its queue", trigger=str(trigger), events=lost)

    async def publish(self, broker: Key, message: Message, trace: Mapping[str, str], hops: int) -> Reception:
        """What became of the event, which is on disk when that is 202."""
        lanes = [lane for lane in self._lanes.values() if _is_for(lane.route, broker, message)]
        full = next((lane for lane in lanes if lane.waiting >= self._queue_length), None)
        if full is not None:
            words = f"{full.waiting} events wait for {full.route.function} already (Trigger {full.route.trigger})"
            return Reception(503, words)
        if not lanes:
            return Reception()
        try:
            await self._store(lanes, {**encoding.binary_headers(message), **trace}, message.data, hops)
        except BacklogFull as error:
            return Reception(507, f"there is no room for more events on disk: {error}")
        except BacklogError as error:
            return Reception(503, f"events cannot be stored: {error}")
        return Reception(queues=len(lanes))

    async def close(self, calling: set[asyncio.Task[None] | None], *, grace: float) -> None:
        """Gives those that wait for a function so many seconds, nobody else; what is not done stays on disk."""
        lanes = list(self._lanes.values())
        for lane in lanes:
            await lane.stop_reading()
        called = [task for lane in lanes for task in lane.tasks if task in calling]
        for lane in lanes:
            for task in lane.tasks - calling:
                task.cancel()
        if called:
            await asyncio.wait(called, timeout=grace)
        for lane in lanes:
            await lane.close()

    async def _store(self, lanes: list[Lane], headers: Mapping[str, str], body: bytes, hops: int) -> None:
        """Whoever is cancelled meanwhile leaves an event that is stored and delivered all the same."""
        queues = [lane.route.trigger for lane in lanes]
        now = self._clock.now()
        for lane in lanes:
            lane.waiting += 1
        storing = asyncio.ensure_future(self._backlog.accept(headers, body, queues, hops=hops, now=now))
        storing.add_done_callback(partial(_stored, lanes))
        await asyncio.shield(storing)


def _stored(lanes: list[Lane], storing: asyncio.Future[None]) -> None:
    failed = storing.cancelled() or storing.exception() is not None
    for lane in lanes:
        if failed:
            lane.waiting -= 1
        else:
            lane.wake()


def _is_for(route: Route, broker: Key, message: Message) -> bool:
    return route.broker == broker and filters.matches(route.wanted, message)
