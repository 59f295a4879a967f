"""A small HTTP server on loopback that misbehaves as told: what transport must bear, without an API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from knative_lambda.cluster.kube import KubeCluster
from knative_lambda.cluster.transport import Endpoint, StaticCredentials, Tuning
from knative_lambda.kit.clock import Clock, SystemClock

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers with the scripted answers in order, and with the last one for ever."""

    url: str = ""
    script: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Request(request.method, request.raw_path, dict(request.headers), await request.read()))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await answer(request)


def json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")

    return answer


def text(body: str, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status, headers=headers)

    return answer


def failure(status: int, reason: str = "", message: str = "no", *, after: str | None = None, **details: Any) -> Answer:
    """A metav1.Status."""
    body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
    return json({**body, "details": details}, status=status, headers={"Retry-After": after} if after else None)


def hanging(seconds: float = 5.0) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(text="{}")

    return answer


def cut() -> Answer:
    """Closes the connection without a word."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return answer


def stream(*chunks: bytes, pause: float = 0.0, then: str = "end") -> Answer:
    """A watch's body in chunks; then it ends, is cut, or hangs."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                await response.write(chunk)
                await asyncio.sleep(pause)
            if then == "hang":
                await asyncio.sleep(30)
            if then == "cut":
                assert request.transport is not None
                request.transport.abort()
        return response

    return answer


@contextlib.asynccontextmanager
async def serving(*script: Answer) -> AsyncIterator[Server]:
    server = Server(script=list(script))
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def talking(
    *script: Answer, clock: Clock | None = None, credentials: Any = None, **tuning: Any
) -> AsyncIterator[tuple[KubeCluster, Server]]:
    """A KubeCluster and the server that it talks to. Tuning is quick: 0.5 s per call."""
    options: dict[str, Any] = {"timeout": 0.5, "connect_timeout": 0.3, "watch_idle": 0.5, **tuning}
    async with serving(*script) as server:
        endpoint = Endpoint(server.url, credentials or StaticCredentials("Bearer test"))
        cluster = KubeCluster(endpoint, clock=clock or SystemClock(), tuning=Tuning(**options))
        try:
            yield cluster, server
        finally:
            await cluster.close()
