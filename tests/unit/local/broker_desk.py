"""A broker of local mode with functions that the test plays, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Object
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.events.dead_letters import Letter
from knative_lambda.events.memory_letters import MemoryLetters
from knative_lambda.kit.clock import ManualClock
from knative_lambda.local.messaging.broker import DEFAULTS, BrokerOptions, LocalBroker
from knative_lambda.local.messaging.delivery import Notice
from knative_lambda.resources import names
from knative_lambda.resources.trigger import PARALLELISM

NAMESPACE = "shop"
BROKER = Key(NAMESPACE, "default")
ORDERS = Key(NAMESPACE, "orders")
AUDIT = Key(NAMESPACE, "audit")
SINK = "http://127.0.0.1:8080/dead-letters/shop/orders"
DELIVERY = {
    "deadLetterSink": {"uri": SINK},
    "retry": 5,
    "backoffPolicy": "exponential",
    "backoffDelay": "PT1S",
}
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "e-1",
    "ce-source": "/shop",
    "ce-type": "order.placed",
    "content-type": "application/json",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a played function answers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Called:
    """One call of a function."""

    function: Key
    headers: Mapping[str, str]
    body: bytes
    at: float
    """Seconds on the desk's clock."""


Function = Callable[[Called], Awaitable[Reply]]


async def takes_all(_: Called) -> Reply:
    return Reply(202)


def answering(*statuses: int) -> Function:
    """These, one after the other; the last one stays."""
    left = list(statuses)

    async def function(_: Called) -> Reply:
        return Reply(left.pop(0) if len(left) > 1 else left[0])

    return function


class Desk:
    """Everything around one LocalBroker."""

    def __init__(self, state: Path, *, options: BrokerOptions = DEFAULTS, letters: MemoryLetters | None = None) -> None:
        self.clock = ManualClock()
        self.cluster = MemoryCluster(clock=self.clock, kinds=[kinds.BROKER, kinds.TRIGGER, kinds.SERVICE])
        self.letters = letters or MemoryLetters()
        self.calls: list[Called] = []
        self.notices: list[Notice] = []
        self.functions: dict[Key, Function] = {}
        self.broker = LocalBroker(
            self.cluster,
            self._call,
            self.letters,
            state / "broker.db",
            clock=self.clock,
            options=options,
            told=self.notices.append,
        )
        self._app = Starlette(routes=self.broker.routes())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Desk]:
        """From start to an orderly end."""
        [service] = self.broker.services()
        task = asyncio.ensure_future(service.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert service.drain is not None
            await service.drain()

    # ---- what is in the cluster ----

    async def make_broker(self, key: Key = BROKER, *, delivery: Object | None = None) -> None:
        spec = {"delivery": delivery} if delivery else {}
        await self._apply(kinds.BROKER, key, spec)

    async def function(self, key: Key, plays: Function = takes_all) -> None:
        """A Knative Service that is Ready."""
        self.functions[key] = plays
        await self._apply(kinds.SERVICE, key, {})
        status = {"url": f"http://{key.name}.{key.namespace}.localhost:8080"}
        await self.cluster.patch(kinds.SERVICE, key, {"status": status}, subresource="status")

    async def trigger(
        self,
        function: Key = ORDERS,
        *,
        name: str = "",
        wanted: Mapping[str, str] | None = None,
        delivery: Object | None = DELIVERY,
        parallelism: str | None = None,
        **more: Any,
    ) -> Key:
        ref = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": function.name}
        spec: Object = {"broker": BROKER.name, "subscriber": {"ref": ref}, **more}
        if wanted:
            spec["filter"] = {"attributes": dict(wanted)}
        if delivery is not None:
            spec["delivery"] = delivery
        key = Key(function.namespace, name or f"{function.name}-trigger")
        await self._apply(kinds.TRIGGER, key, spec, {PARALLELISM: parallelism} if parallelism else {})
        return key

    async def standard(self, plays: Function = takes_all, **trigger: Any) -> Key:
        """One Broker and one function with one Trigger, which is Ready."""
        await self.make_broker()
        await self.function(ORDERS, plays)
        key = await self.trigger(ORDERS, **trigger)
        await self.ready(key)
        return key

    async def ready(self, *triggers: Key) -> None:
        for key in triggers:
            await until(lambda key=key: self._is_ready(key))

    async def conditions(self, kind: Any, key: Key) -> dict[str, Object]:
        found = await self.cluster.get(kind, key)
        return {one["type"]: one for one in found.get("status", {}).get("conditions", [])}

    async def _is_ready(self, key: Key) -> bool:
        found = await self.conditions(kinds.TRIGGER, key)
        return found.get("Ready", {}).get("status") == "True"

    async def _apply(self, kind: Any, key: Key, spec: Object, annotations: Mapping[str, str] | None = None) -> None:
        metadata = {"name": key.name, "namespace": key.namespace, "annotations": dict(annotations or {})}
        await self.cluster.apply(
            kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
        )

    # ---- what happens ----

    async def post(
        self,
        body: bytes | AsyncIterator[bytes] = b'{"total": 3}',
        *,
        path: str = "/broker/shop/default",
        **headers: str,
    ) -> httpx.Response:
        """An event in binary mode; `ce_id="e-2"` changes a header."""
        named = {**BINARY, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self.send(path, body, named)

    async def send(self, path: str, body: bytes | AsyncIterator[bytes], headers: Mapping[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            return await client.post(path, content=body, headers=dict(headers))

    async def called(self, count: int, function: Key = ORDERS) -> list[Called]:
        """Waits for so many calls of the function."""
        await until(lambda: len(self.calls_of(function)) >= count)
        return self.calls_of(function)

    def calls_of(self, function: Key) -> list[Called]:
        return [one for one in self.calls if one.function == function]

    async def buried(self, count: int, function: Key = ORDERS) -> list[Letter]:
        """Waits for so many dead letters of the function; time passes meanwhile."""

        async def is_buried() -> bool:
            await self.clock.advance(1)
            return len(self.letters_of(function)) >= count

        await until(is_buried)
        return self.letters_of(function)

    def letters_of(self, function: Key) -> list[Letter]:
        key = names.dead_letter_key(function)
        return [letter for queue in self.letters.queues.values() for letter in queue if letter.routing_key == key]

    async def settled(self, trigger: Key) -> None:
        """Waits until nothing waits."""
        await until(lambda: self.broker.waiting(trigger) == 0)

    async def _call(self, service: Key, headers: Mapping[str, str], body: bytes) -> Reply:
        called = Called(service, headers, body, self.clock.monotonic())
        self.calls.append(called)
        return await self.functions[service](called)


async def until(holds: Callable[[], bool | Awaitable[bool]], *, seconds: float = 10.0) -> None:
    """Real time passes: what is waited for needs the disk's thread."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.002)
