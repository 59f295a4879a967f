"""Runs a reconcile function over the keys of a work queue, many at a time. Wiring makes one per controller."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Generic, TypeVar

import structlog

from knative_lambda.cluster.base import ClusterError, Conflict, WriteFenced
from knative_lambda.kit import redact
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.queue import Priority, QueueClosed, WorkQueue
from knative_lambda.machinery.timing import TICK, expire, within

K = TypeVar("K", bound=Hashable)

RECONCILE_TIMEOUT = 120.0
TRACE_LIMIT = 8_000
"""Characters of a stack trace that are logged; its end says what went wrong."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Requeue:
    """Look at this key again after so many seconds."""

    after: float
    priority: Priority = Priority.NORMAL


class Result(StrEnum):
    """How one reconcile ended, as observers are told."""

    SUCCESS = "success"
    REQUEUE = "requeue"
    CONFLICT = "conflict"
    FENCED = "fenced"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    ERROR = "error"
    CANCELLED = "cancelled"


Observer = Callable[[K, str, float], None]
"""Called after each reconcile with its key, its Result and the seconds it took."""


class Runner(Generic[K]):
    """`workers` reconciles at a time, never two of one key. May be run again after it was cancelled (leadership)."""

    def __init__(
        self,
        name: str,
        queue: WorkQueue[K],
        reconcile: Callable[[K], Awaitable[Requeue | None]],
        *,
        clock: Clock,
        workers: int = 50,
        grace: float = 25.0,
        timeout: float = RECONCILE_TIMEOUT,
        observer: Observer[K] | None = None,
    ) -> None:
        """`grace`: seconds that running reconciles get to finish after `run` was cancelled. `timeout`: of each."""
        self.name = name
        self._queue = queue
        self._reconcile = reconcile
        self.timeout = timeout
        self.handled = 0
        """Reconciles that have ended, however."""
        self._clock = clock
        self._workers = workers
        self._grace = grace
        self._observer = observer
        self._slots = asyncio.Semaphore(workers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._deadlines: dict[K, tuple[float, asyncio.Timeout]] = {}

    @property
    def running(self) -> int:
        """Reconciles that are under way."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """Keys that could be begun now."""
        return len(self._queue)

    async def run(self) -> None:
        """Until cancelled or the queue is closed; then takes no more keys and lets running reconciles finish."""
        self._slots = asyncio.Semaphore(self._workers)
        overseer = asyncio.create_task(self._enforce_deadlines())
        try:
            await self._dispatch()
        except QueueClosed:
            log.debug("queue closed", runner=self.name)
        finally:
            await self._finish()
            overseer.cancel()

    async def _dispatch(self) -> None:
        while True:
            await self._slots.acquire()
            key = await self._queue.get()
            task = asyncio.create_task(self._handle(key), name=f"{self.name} {key}")
            self._tasks.add(task)
            task.add_done_callback(partial(self._release, key))

    def _release(self, key: K, task: asyncio.Task[None]) -> None:
        """After a reconcile, also one that was cancelled before its first step."""
        self._tasks.discard(task)
        self.handled += 1
        if task.cancelled():
            self._queue.retry(key)
            self._observe(key, Result.CANCELLED, 0.0)
        self._queue.done(key)
        self._slots.release()

    async def _finish(self) -> None:
        """Waits for running reconciles, at most `grace` seconds (not at all when cancelled again); cancels the rest."""
        try:
            if self._tasks:
                await within(self._clock, self._grace, asyncio.wait(set(self._tasks)))
        except TimeoutError:
            log.warning("reconciles did not finish in time", runner=self.name, running=len(self._tasks))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, key: K) -> None:
        started = self._clock.monotonic()
        try:
            requeue = await self._limited(key)
        except Exception as error:  # noqa: BLE001 - whatever one key does, the others go on
            result = self._failed(key, error)
        else:
            result = self._succeeded(key, requeue)
        self._observe(key, result, self._clock.monotonic() - started)

    async def _limited(self, key: K) -> Requeue | None:
        async with asyncio.timeout(None) as scope:
            self._deadlines[key] = (self._clock.monotonic() + self.timeout, scope)
            try:
                return await self._reconcile(key)
            finally:
                del self._deadlines[key]

    async def _enforce_deadlines(self) -> None:
        """One task for all reconciles: their limits are equal, so their deadlines stand in order of their start."""
        while True:
            now = self._clock.monotonic()
            pause = self.timeout
            for deadline, scope in list(self._deadlines.values()):
                if deadline > now + TICK:
                    pause = deadline - now
                    break
                expire(scope)
            await self._clock.sleep(pause)

    def _succeeded(self, key: K, requeue: Requeue | None) -> Result:
        self._queue.forget(key)
        if requeue is None:
            return Result.SUCCESS
        self._queue.add_after(key, requeue.after, requeue.priority)
        return Result.REQUEUE

    def _failed(self, key: K, error: Exception) -> Result:
        about = {"runner": self.name, "key": str(key)}
        if isinstance(error, Conflict | WriteFenced):
            wait = self._queue.retry(key)
            log.debug("reconcile came too late", **about, error=redact.text(str(error)), again_in=round(wait, 2))
            return Result.CONFLICT if isinstance(error, Conflict) else Result.FENCED
        if isinstance(error, ClusterError) and error.retry_after is not None:
            wait = error.retry_after * random.uniform(1.0, 1.2)  # noqa: S311 - spreads load, guards nothing
            self._queue.add_after(key, wait)
            log.warning("reconcile put off", **about, error=redact.text(str(error)), again_in=round(wait, 2))
            return Result.THROTTLED
        wait = self._queue.retry(key)
        log.error("reconcile failed", **about, **_described(error), again_in=round(wait, 2))
        return Result.TIMEOUT if isinstance(error, TimeoutError) else Result.ERROR

    def _observe(self, key: K, result: Result, seconds: float) -> None:
        if self._observer is None:
            return
        try:
            self._observer(key, result, seconds)
        except Exception:
            log.exception("the observer of a runner failed", runner=self.name)


def _described(error: Exception) -> dict[str, str]:
    """What the log says: of the API server's errors their text, of others also where they happened."""
    text = redact.text(f"{type(error).__name__}: {error}")
    if isinstance(error, ClusterError):
        return {"error": text}
    trace = redact.text("".join(traceback.format_exception(error)))
    return {"error": text, "trace": redact.clip(trace, TRACE_LIMIT)}
