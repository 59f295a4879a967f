"""Which keys to reconcile, in which order and when. Filled by informers' handlers, emptied by a Runner.

All methods belong to the loop's thread.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.rate import TokenBucket
from knative_lambda.machinery.timing import TICK

K = TypeVar("K", bound=Hashable)

RETRIES = Backoff(base=0.2, cap=300.0)
FAIRNESS = 8
"""Every eighth key is the one that waited longest, whatever its priority, so that nothing starves."""
_SLACK = 64
"""Outdated alarms that the schedule may hold before it is worth rebuilding."""


class Priority(IntEnum):
    """HIGH: a person waits. NORMAL: the cluster changed. LOW: looking again to be sure."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class QueueClosed(Exception):
    """There will be no more keys."""


class _Delay(NamedTuple):
    due: float
    order: int
    priority: Priority


class WorkQueue(Generic[K]):
    """A deduplicating queue that never hands out a key which is still being processed.

    Handing a key out cancels its pending delay: whoever processes it sees all there is, and says when to look again.
    """

    def __init__(self, *, clock: Clock, backoff: Backoff = RETRIES, rate: float | None = None) -> None:
        self._clock = clock
        self._backoff = backoff
        self._bucket = TokenBucket(clock, rate)
        self._lanes: dict[Priority, OrderedDict[K, float]] = {priority: OrderedDict() for priority in Priority}
        self._ready: dict[K, Priority] = {}
        self._processing: set[K] = set()
        self._dirty: dict[K, Priority] = {}
        self._failures: dict[K, int] = {}
        self._delays: dict[K, _Delay] = {}
        self._schedule: list[tuple[float, int, K]] = []
        self._order = 0
        self._handed_out = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = 0.0
        self._closed = False

    # What may be asked at any time, for metrics.

    def __len__(self) -> int:
        """Keys that could be handed out now."""
        return len(self._ready)

    @property
    def depth(self) -> Mapping[Priority, int]:
        """Keys that could be handed out now, by priority."""
        return {priority: len(lane) for priority, lane in self._lanes.items()}

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._delays)

    @property
    def processing(self) -> int:
        """Keys that were handed out and are not done."""
        return len(self._processing)

    @property
    def oldest_age(self) -> float:
        """Seconds that the key which waits longest has been ready."""
        heads = [next(iter(lane.values())) for lane in self._lanes.values() if lane]
        return self._clock.monotonic() - min(heads) if heads else 0.0

    @property
    def rate(self) -> float | None:
        """Keys per second that `get` hands out at most; None is no limit."""
        return self._bucket.rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        self._bucket.rate = rate
        self._disarm()
        self._wake()

    def failures(self, key: K) -> int:
        """Times that `retry` was called since the last `forget`."""
        return self._failures.get(key, 0)

    # Filling.

    def add(self, key: K, priority: Priority = Priority.NORMAL) -> None:
        """Asks for the key now; a pending delay of it is cancelled, the highest asked priority stays."""
        delay = self._delays.pop(key, None)
        self._request(key, priority if delay is None else min(priority, delay.priority))

    def add_after(self, key: K, seconds: float, priority: Priority = Priority.NORMAL) -> None:
        """Asks for the key after some time; when it already waits, the earlier time and higher priority win."""
        if seconds <= 0:
            self.add(key, priority)
            return
        due = self._clock.monotonic() + seconds
        delay = self._delays.get(key)
        if delay is not None and delay.due <= due:
            self._delays[key] = delay._replace(priority=min(delay.priority, priority))
            return
        self._order += 1
        self._delays[key] = _Delay(due, self._order, priority if delay is None else min(priority, delay.priority))
        heapq.heappush(self._schedule, (due, self._order, key))
        self._rebuild_schedule()
        if self._waiters:
            self._arm()

    def retry(self, key: K) -> float:
        """Asks for the key after its own growing delay; the seconds until then."""
        attempt = self._failures.get(key, 0)
        self._failures[key] = attempt + 1
        seconds = self._backoff.delay(attempt)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """The key went well: its next retry starts small again."""
        self._failures.pop(key, None)

    def close(self) -> None:
        """No more keys: everybody who waits in `get` gets QueueClosed."""
        self._closed = True
        self._disarm()
        while self._waiters:
            self._wake()

    # Emptying.

    async def get(self) -> K:
        """The next key, marked as being processed until `done`. Raises QueueClosed."""
        while not self._closed:
            self._promote()
            if self._ready and self._bucket.take():
                return self._hand_out()
            await self._wait()
        raise QueueClosed

    def done(self, key: K) -> None:
        """The key may be handed out again; it will be at once when somebody asked for it meanwhile."""
        self._processing.discard(key)
        priority = self._dirty.pop(key, None)
        if priority is not None:
            self._request(key, priority)

    def _request(self, key: K, priority: Priority) -> None:
        if key in self._processing:
            self._dirty[key] = min(priority, self._dirty.get(key, Priority.LOW))
            return
        queued = self._ready.get(key)
        if queued is not None and queued <= priority:
            return
        since = self._clock.monotonic() if queued is None else self._lanes[queued].pop(key)
        self._ready[key] = priority
        self._lanes[priority][key] = since
        if queued is None:
            self._wake()

    def _hand_out(self) -> K:
        key, _ = self._next_lane().popitem(last=False)
        del self._ready[key]
        self._delays.pop(key, None)
        self._processing.add(key)
        if self._ready:
            self._wake()
        return key

    def _next_lane(self) -> OrderedDict[K, float]:
        lanes = [lane for lane in self._lanes.values() if lane]
        self._handed_out += 1
        if len(lanes) > 1 and self._handed_out % FAIRNESS == 0:
            return min(lanes, key=lambda lane: next(iter(lane.values())))
        return lanes[0]

    def _promote(self) -> None:
        """Makes keys ready whose time has come."""
        now = self._clock.monotonic() + TICK
        while self._schedule and self._schedule[0][0] <= now:
            _, order, key = heapq.heappop(self._schedule)
            delay = self._delays.get(key)
            if delay is not None and delay.order == order:
                del self._delays[key]
                self._request(key, delay.priority)

    def _rebuild_schedule(self) -> None:
        """Drops alarms of delays that were cancelled or moved, once they are the majority."""
        if len(self._schedule) > 2 * len(self._delays) + _SLACK:
            self._schedule = [(delay.due, delay.order, key) for key, delay in self._delays.items()]
            heapq.heapify(self._schedule)

    # Waiting. One waiter is woken per key and wakes the next while there are keys; one alarm serves all of them.

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._arm()
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # was woken and will not come: the next one takes over
                self._wake()
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self) -> None:
        """Sets the alarm to the moment at which a waiter could get something."""
        times = []
        if self._ready:
            times.append(self._clock.monotonic() + self._bucket.wait())
        if self._schedule:
            times.append(self._schedule[0][0])
        if not times or (self._alarm is not None and self._alarm_at <= min(times)):
            return
        self._disarm()
        self._alarm_at = min(times)
        self._alarm = asyncio.create_task(self._ring(self._alarm_at))

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def _ring(self, at: float) -> None:
        await self._clock.sleep(max(TICK, at - self._clock.monotonic()))
        self._alarm = None
        self._wake()
