"""Counts HTTP requests, around any of our ASGI applications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from knative_lambda.kit.clock import Clock
from knative_lambda.web.metrics import Metrics


@dataclass(slots=True)
class _Exchange:
    """What is known of one request so far; an application that answers nothing has failed."""

    status: int = 500
    size: int = 0


class MeasuredRequests:
    """ASGI middleware. Endpoints are templates of routes, never paths, which anybody can invent."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, clock: Clock) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange, started = _Exchange(), self._clock.monotonic()
        try:
            await self._app(scope, _sized(receive, exchange), _told(send, exchange))
        finally:
            seconds = self._clock.monotonic() - started
            self._metrics.requested(
                scope["method"], _template(scope), status=exchange.status, seconds=seconds, size=exchange.size
            )


def _sized(receive: Receive, exchange: _Exchange) -> Receive:
    async def sized() -> Message:
        message = await receive()
        exchange.size += len(message.get("body", b""))
        return message

    return sized


def _told(send: Send, exchange: _Exchange) -> Callable[[Message], Any]:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
        await send(message)

    return told


def _template(scope: Scope) -> str:
    """The template of the route that Starlette found."""
    template = getattr(scope.get("route"), "path", "")
    return template if isinstance(template, str) else ""
