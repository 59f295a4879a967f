"""Events per second through the broker of local mode: stored on disk, answered, and delivered to an empty handler.

The ingress is served by uvicorn as in local mode, on the folder for temporary files; client, broker and handler are in
one process. The same requests to a bare Starlette route, in the same run, say what HTTP alone costs here.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Object
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.events.memory_letters import MemoryLetters
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.messaging.broker import LocalBroker
from knative_lambda.resources.trigger import PARALLELISM
from knative_lambda.wiring import http
from knative_lambda.wiring.http import Listener
from tests.benchmarks.posting import accepted_per_second
from tests.benchmarks.table import Figure

SERVICE = Key("shop", "orders")
HEADERS = {
    "ce-id": "1", "ce-source": "/shop", "ce-type": "order.placed", "ce-specversion": "1.0",
    "content-type": "application/json",
}  # fmt: skip
BODY = b'{"text": "' + b"x" * 1000 + b'"}'
REF = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "orders"}
OBJECTS: dict[Kind, tuple[str, Object]] = {
    kinds.BROKER: ("default", {}),
    kinds.SERVICE: ("orders", {}),
    kinds.TRIGGER: ("orders-trigger", {"broker": "default", "subscriber": {"ref": REF}}),
}
"""Name and spec of what is there."""


def run(count: int) -> list[Figure]:
    """`count` events of 1 KiB."""
    return asyncio.run(_measured(count))


async def _measured(count: int) -> list[Figure]:
    bare = await _bare(count)
    accepted, delivered = await _broker(count)
    return [
        Figure("events accepted by the local broker, on disk, per second", f"{accepted:.0f}"),
        Figure("events delivered to an empty handler meanwhile, per second", f"{delivered:.0f}"),
        Figure("requests to a bare route of the same server, per second", f"{bare:.0f}"),
    ]


async def _bare(count: int) -> float:
    async def receive(request: Request) -> Response:
        await request.body()
        return Response(status_code=202)

    async with _served(Starlette(routes=[Route("/", receive, methods=["POST"])])) as url:
        return await accepted_per_second(url, BODY, HEADERS, count=count)


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int = 202
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


async def _broker(count: int) -> tuple[float, float]:
    """Accepted and delivered per second."""
    clock, done, seen = SystemClock(), asyncio.Event(), 0
    cluster = MemoryCluster(clock=clock, kinds=list(OBJECTS))

    async def call(_service: Key, _headers: Mapping[str, str], _body: bytes) -> _Reply:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()
        return _Reply()

    with tempfile.TemporaryDirectory() as state:
        broker = LocalBroker(cluster, call, MemoryLetters(), Path(state) / "broker.db", clock=clock)
        [service] = broker.services()
        assert service.drain is not None
        running = asyncio.ensure_future(service.run())
        await _furnish(cluster)
        async with _served(Starlette(routes=broker.routes())) as url:
            began = time.monotonic()
            accepted = await accepted_per_second(f"{url}broker/shop/default", BODY, HEADERS, count=count)
            await done.wait()
            delivered = count / (time.monotonic() - began)
        running.cancel()
        await asyncio.wait({running})
        await service.drain()
    return accepted, delivered


async def _furnish(cluster: MemoryCluster) -> None:
    for kind, (name, spec) in OBJECTS.items():
        metadata = {"name": name, "namespace": "shop", "annotations": {PARALLELISM: "10"}}
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
        await cluster.apply(kind, manifest)
    url = {"status": {"url": "http://orders.shop.localhost"}}
    await cluster.patch(kinds.SERVICE, SERVICE, url, subresource="status")
    while "status" not in await cluster.get(kinds.TRIGGER, Key("shop", "orders-trigger")):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)


@asynccontextmanager
async def _served(app: Starlette) -> AsyncIterator[str]:
    sock = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(http.serve(Listener("broker", "127.0.0.1", 0), app, sock))
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    finally:
        serving.cancel()
        await asyncio.wait({serving})
