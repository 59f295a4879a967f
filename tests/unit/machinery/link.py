"""One client's own connection to a shared memory cluster: it may hang while the others' work, and it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from knative_lambda.api.meta import FIELD_MANAGER, Key, Kind
from knative_lambda.cluster.base import EVERYTHING, Cluster, Object, Page, Propagation, Selection, WatchEvent
from knative_lambda.kit.clock import Clock, ManualClock

T = TypeVar("T")


class Link:
    """A Cluster that passes on to another one. `down` lets every call hang; `on_call` is told verbs as they start."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.calls: list[tuple[float, str]] = []
        """When each call began, and its verb."""
        self.down = False
        self.silent: set[str] = set()
        """Label selectors whose watches keep their events to themselves; also "" for the one without labels."""
        self.after_call: Callable[[str], None] = lambda verb: None
        self._cluster = cluster
        self._clock = clock

    def times(self, verb: str) -> list[float]:
        return [at for at, name in self.calls if name == verb]

    async def _pass(self, verb: str, call: Awaitable[T]) -> T:
        self.calls.append((self._clock.monotonic(), verb))
        if self.down:
            await _never(call)
        result = await call
        self.after_call(verb)
        return result

    async def get(self, kind: Kind, key: Key) -> Object:
        return await self._pass("get", self._cluster.get(kind, key))

    async def list(
        self, kind: Kind, selection: Selection = EVERYTHING, *, limit: int = 500, continue_token: str = ""
    ) -> Page:
        call = self._cluster.list(kind, selection, limit=limit, continue_token=continue_token)
        return await self._pass("list", call)

    async def watch(
        self, kind: Kind, selection: Selection = EVERYTHING, *, resource_version: str, seconds: int = 300
    ) -> AsyncIterator[WatchEvent]:
        self.calls.append((self._clock.monotonic(), "watch"))
        events = self._cluster.watch(kind, selection, resource_version=resource_version, seconds=seconds)
        if self.down:
            await _never()
        async for event in events:
            while selection.labels in self.silent:
                await self._clock.sleep(1)
            yield event

    async def create(self, kind: Kind, obj: Object) -> Object:
        return await self._pass("create", self._cluster.create(kind, obj))

    async def apply(self, kind: Kind, obj: Object, *, manager: str = FIELD_MANAGER, force: bool = True) -> Object:
        return await self._pass("apply", self._cluster.apply(kind, obj, manager=manager, force=force))

    async def patch(self, kind: Kind, key: Key, patch: Object, *, subresource: str = "") -> Object:
        return await self._pass("patch", self._cluster.patch(kind, key, patch, subresource=subresource))

    async def replace(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        return await self._pass("replace", self._cluster.replace(kind, obj, subresource=subresource))

    async def delete(
        self, kind: Kind, key: Key, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        await self._pass("delete", self._cluster.delete(kind, key, uid=uid, propagation=propagation))

    async def served(self, kind: Kind) -> bool:
        return await self._pass("served", self._cluster.served(kind))

    async def close(self) -> None:
        await self._cluster.close()


class StallingClock(ManualClock):
    """`stall` lets time pass in which no task had its turn, as in a loop that a long callback holds."""

    def __init__(self) -> None:
        super().__init__()
        self._stalled = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._stalled

    def stall(self, seconds: float) -> None:
        self._stalled += seconds


async def _never(call: Awaitable[Any] | None = None) -> None:
    """Hangs until cancelled; the call that it stands for is never made."""
    if isinstance(call, Coroutine):
        call.close()
    await asyncio.get_running_loop().create_future()


async def until(condition: Callable[[], object], turns: int = 5000) -> None:
    """Lets the loop run until the condition holds; AssertionError when it does not come true."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("what the test waits for did not happen")


async def settle(turns: int = 200) -> None:
    """Lets everything run that can run without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(*works: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The coroutines as tasks, cancelled at the end. One that failed fails the test."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
