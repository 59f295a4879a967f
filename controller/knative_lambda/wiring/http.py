"""HTTP listeners as services of the process: uvicorn in our own loop, without its signal handlers and access log.

Called by wiring for the operations port and for the webhooks' port.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from knative_lambda.machinery.process import Service

HEADER_BYTES = 32 * 1024
BACKLOG = 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen, and how much at once."""

    name: str
    host: str
    port: int
    connections: int = 512
    """Connections at once; further requests are answered 503."""
    header_seconds: float = 10.0
    """Within so long a request's headers must be here; uvicorn itself waits for ever."""
    keep_alive: int = 5
    """Seconds that an idle connection stays open."""
    grace: int = 10
    """Seconds that running requests get to finish at the end."""
    certificate: Path | None = None
    key: Path | None = None
    """PEM files; with them the listener speaks TLS only."""


def service(listener: Listener, app: ASGIApp) -> Service:
    """Listens from the start of `run` until it is cancelled; raises OSError when the address cannot be had."""

    async def run() -> None:
        sock = _bound(listener)
        log.info("listening", name=listener.name, host=listener.host, port=sock.getsockname()[1])
        await serve(listener, app, sock)

    return Service(f"http {listener.name}", run, patience=listener.grace + 10.0)


async def serve(listener: Listener, app: ASGIApp, sock: socket.socket) -> None:
    """Serves on a bound socket until cancelled, then lets running requests finish. Closes the socket."""
    # Accepted sockets inherit it; without it an answer's second packet waits 40 ms for the sender's acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = _Server(_config(listener, app))
    serving = asyncio.ensure_future(server.serve(sockets=[sock]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
    finally:
        sock.close()


def _bound(listener: Listener) -> socket.socket:
    """Bound before uvicorn sees it, which would end the whole process when the port is taken."""
    inet6 = ":" in listener.host
    family = socket.AF_INET6 if inet6 else socket.AF_INET
    try:
        return socket.create_server(
            (listener.host, listener.port), family=family, backlog=BACKLOG, dualstack_ipv6=listener.host == "::"
        )
    except OSError as error:
        where = f"{listener.host} port {listener.port}"
        raise OSError(f"cannot listen on {where} for {listener.name}: {error.strerror}") from error


def _config(listener: Listener, app: ASGIApp) -> Config:
    return Config(
        app,
        http=_impatient(listener.header_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        limit_concurrency=listener.connections,
        timeout_keep_alive=listener.keep_alive,
        timeout_graceful_shutdown=listener.grace,
        h11_max_incomplete_event_size=HEADER_BYTES,
        ssl_certfile=listener.certificate,
        ssl_keyfile=listener.key,
    )


class _Server(Server):
    """Signals belong to the process, see machinery.process."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _impatient(seconds: float) -> type[H11Protocol]:
    """uvicorn makes its protocols itself, from a class."""

    class Impatient(_Protocol):
        patience = seconds

    return Impatient


class _Protocol(H11Protocol):
    """Closes a connection whose headers do not come to an end."""

    patience: float
    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if not self._is_waiting():
            self._calm()
        elif self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(self.patience, self._give_up)

    def _calm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _give_up(self) -> None:
        self._alarm = None
        if self._is_waiting():
            self.transport.close()

    def _is_waiting(self) -> bool:
        """Whether no request is being answered; uvicorn's `cycle` is None until the first one."""
        cycle: Any = getattr(self, "cycle", None)
        return cycle is None or bool(cycle.response_complete)
