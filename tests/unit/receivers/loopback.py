"""A receiver behind real HTTP on loopback, as the process serves it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from knative_lambda.wiring import http
from knative_lambda.wiring.http import Listener


@asynccontextmanager
async def served(app: ASGIApp, *, header_seconds: float = 10.0, connections: int = 128) -> AsyncIterator[int]:
    """The port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = sock.getsockname()[1]
    listener = Listener("test", "127.0.0.1", port, connections=connections, header_seconds=header_seconds)
    task = asyncio.create_task(http.serve(listener, app, sock))
    try:
        yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
