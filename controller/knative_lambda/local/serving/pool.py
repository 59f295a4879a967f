"""The instances of one revision, and the requests that wait for one. Called by forwarding for every request, by server.

Plays Knative's activator and autoscaler. All methods belong to the loop's thread.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.local.serving import scaling
from knative_lambda.local.serving.instance import Instance, Revision, StartFailed, Starting
from knative_lambda.local.serving.scaling import Load, Window
from knative_lambda.local.serving.serving_options import ServerOptions
from knative_lambda.machinery.timing import within

RESTARTS = Backoff(base=0.5, cap=300.0)
"""Between starts that fail, or instances that end soon."""
STEADY = 10.0
"""Seconds after which the end of an instance says nothing against starting another one at once."""
FAREWELL = 1.0
"""Seconds from a closed port to the end of its process."""
PATIENCE = 10
"""Times the target that an instance without a hard limit is given at most; the rest waits here."""

log = structlog.get_logger(__name__)


class Refused(Exception):
    """A request that gets no instance; `retry_after` is in seconds."""

    def __init__(self, words: str, *, retry_after: float) -> None:
        super().__init__(words)
        self.words = words
        self.retry_after = max(1, math.ceil(retry_after))


class Moved(Exception):
    """The revision is being replaced: the request shall ask its successor."""


class Pool:
    """One revision. `on_change` is called when it begins or ceases to fail."""

    def __init__(
        self,
        revision: Revision,
        starting: Starting,
        *,
        clock: Clock,
        options: ServerOptions,
        on_change: Callable[[], None],
    ) -> None:
        self.revision = revision
        self.failure = ""
        """Why there is no instance; empty when there is one, or none is needed."""
        self.proven = False
        """Whether an instance of it ever listened."""
        self.instances: list[Instance] = []
        self._starting = starting
        self._clock = clock
        self._options = options
        self._on_change = on_change
        template = revision.template
        self._capacity = template.hard_limit or template.scale.target * PATIENCE
        self._waiting: deque[asyncio.Future[Instance]] = deque()
        self._running = 0
        self._coming: set[asyncio.Task[None]] = set()
        self._window = Window(min(options.window_seconds, self._grace()))
        self._active = clock.monotonic()
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Requests that have no instance yet."""
        return len(self._waiting)

    @property
    def starting(self) -> int:
        """Instances that are coming up."""
        return len(self._coming)

    @property
    def retry_in(self) -> float:
        """Seconds until the next start may be tried."""
        return max(0.0, self._not_before - self._clock.monotonic())

    # ---- requests ----

    async def lease(self) -> Instance:
        """An instance for one request, to be given back. Raises Refused or Moved."""
        if self._closed:
            raise Moved
        found = self._free()
        if found is None:
            return await self._queue()
        self._hand(found)
        self.scale_up()
        return found

    def give_back(self, instance: Instance, *, suspect: bool = False, gone: bool = False) -> None:
        """`suspect`: it let the request time out, who knows what it still does. `gone`: nobody is at its port."""
        self._running -= 1
        instance.give_back()
        self._active = self._clock.monotonic()
        self._note()
        if suspect:
            log.warning("an instance did not answer in time and is replaced", instance=instance.place.name)
            self._retire(instance)
        if gone and instance in self.instances:
            self.instances.remove(instance)
            self._go(self._bury(instance))
        self._serve_waiting()

    def _free(self) -> Instance | None:
        """The one that has least to do."""
        ready = [one for one in self.instances if one.in_flight < self._capacity]
        return min(ready, key=lambda one: one.in_flight) if ready else None

    def _hand(self, instance: Instance) -> None:
        instance.take()
        self._running += 1
        self._note()

    async def _queue(self) -> Instance:
        self._check_queue()
        waiter: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._note()
        self.scale_up()
        try:
            return await within(self._clock, self._options.wait_seconds, waiter)
        except TimeoutError:
            self._leave_queue(waiter)
            raise Refused("no instance became free in time", retry_after=1.0) from None
        except asyncio.CancelledError:
            self._leave_queue(waiter)
            raise

    def _check_queue(self) -> None:
        if len(self._waiting) >= self._options.queue:
            raise Refused("too many requests wait for this function", retry_after=1.0)
        if self.retry_in > 0 and not self.instances and not self._coming:
            raise Refused("the function does not start", retry_after=self.retry_in)

    def _leave_queue(self, waiter: asyncio.Future[Instance]) -> None:
        """An instance that was handed over a moment too late goes to the next one."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            self._note()
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.give_back(waiter.result())

    def _serve_waiting(self) -> None:
        while self._waiting and (found := self._free()) is not None:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._hand(found)
                waiter.set_result(found)

    def _turn_away(self, error: Exception) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    # ---- scaling ----

    def scale_up(self) -> None:
        """Starts what is missing. Called at every request."""
        missing = self._desired() - len(self.instances) - len(self._coming)
        if missing <= 0 or self._closed or self.retry_in > 0:
            return
        for _ in range(missing):
            self._begin()

    def tick(self) -> None:
        """Starts what is missing, and ends what was not needed for a while."""
        self._note()
        self.scale_up()
        surplus = len(self.instances) - self._desired()
        for instance in sorted(self.instances, key=lambda one: one.in_flight)[: max(0, surplus)]:
            self._retire(instance)

    def _note(self) -> None:
        self._window.note(self._clock.monotonic(), self._running + len(self._waiting))

    def _desired(self) -> int:
        now, template = self._clock.monotonic(), self.revision.template
        busy = self._running + len(self._waiting) > 0
        load = Load(peak=self._window.peak(now), idle=0.0 if busy else now - self._active)
        return scaling.desired(load, template.scale, grace=self._grace(), host_limit=self._options.instances)

    def _grace(self) -> float:
        given = (self._options.idle_seconds, self.revision.template.grace)
        return next((seconds for seconds in given if seconds is not None), self._options.grace_seconds)

    # ---- instances ----

    def prove(self) -> None:
        """Starts one instance, as Knative does for every new revision; `proven` or `failure` will tell how it went."""
        if not self._closed and not self._coming and not self.instances:
            self._active = self._clock.monotonic()
            self._begin()

    def _begin(self) -> None:
        task = self._go(self._start())
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    async def _start(self) -> None:
        try:
            instance = await self._starting.start(self.revision)
        except StartFailed as error:
            self._failed(str(error))
            return
        except Exception as error:
            log.exception("an instance could not be started", revision=self.revision.name)
            self._failed(f"Container failed with: {type(error).__name__} in local mode itself, see its log")
            return
        if self._closed:
            await self._starting.stop(instance)
        else:
            self._arrived(instance)

    def _arrived(self, instance: Instance) -> None:
        log.info("instance started", instance=instance.place.name, pid=instance.child.pid)
        changed = bool(self.failure) or not self.proven
        self.failure, self.proven = "", True
        if not self.instances and not self._running:
            self._active = self._clock.monotonic()
        self.instances.append(instance)
        self._go(self._mourn(instance, since=self._clock.monotonic()))
        self._serve_waiting()
        if changed:
            self._on_change()

    def _failed(self, words: str) -> None:
        self._put_off()
        log.warning("instance failed", revision=self.revision.name, error=words, again_in=round(self.retry_in, 1))
        if self.instances:
            return
        self.failure = words
        self._turn_away(Refused("the function does not start", retry_after=self.retry_in))
        self._on_change()

    def _put_off(self) -> None:
        self._not_before = self._clock.monotonic() + RESTARTS.delay(self._failures)
        self._failures += 1

    async def _mourn(self, instance: Instance, *, since: float) -> None:
        """Waits for the end of an instance; when nobody asked for it, there shall be another one."""
        await instance.child.wait()
        if instance.draining:
            return
        if instance in self.instances:
            self.instances.remove(instance)
        instance.draining = True
        if self._clock.monotonic() - since >= STEADY:
            self._failures = 0
        self._lost(f"Container failed with: {instance.epitaph()}")
        await self._starting.stop(instance)

    def _lost(self, words: str) -> None:
        """The first time, another one is started at once and nothing is said of it: this happens to good functions."""
        if self._failures:
            self._failed(words)
            return
        self._failures = 1
        log.warning("an instance ended by itself", revision=self.revision.name, error=words)
        self.scale_up()

    def _retire(self, instance: Instance) -> None:
        if instance.draining:
            return
        instance.draining = True
        if instance in self.instances:
            self.instances.remove(instance)
        self._go(self._drain(instance))

    async def _bury(self, instance: Instance) -> None:
        """Its process ends in a moment, and `_mourn` hears of it; if it does not, it only left its port."""
        try:
            await within(self._clock, FAREWELL, instance.child.wait())
        except TimeoutError:
            self._retire(instance)

    async def _drain(self, instance: Instance) -> None:
        """Its requests go on for a while, then it is asked to end."""
        patience = min(self.revision.template.timeout, self._options.drain_seconds)
        try:
            await within(self._clock, patience, instance.quiet())
        except TimeoutError:
            log.warning("an instance ends with requests that run", instance=instance.place.name)
        await self._starting.stop(instance)
        log.info("instance ended", instance=instance.place.name)

    async def close(self) -> None:
        """Sends those who wait to the successor, lets what runs finish, ends every process."""
        self._closed = True
        self._turn_away(Moved())
        for task in list(self._coming):
            task.cancel()
        for instance in list(self.instances):
            self._retire(instance)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _go(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"instance of {self.revision.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
