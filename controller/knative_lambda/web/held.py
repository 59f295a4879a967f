"""Bodies of requests in memory, counted: one by one and all together. Used by dead_letters and local.ingress."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request


class Full(Exception):
    """Too many bytes are on their way."""


class TooLarge(Exception):
    """One body is larger than the limit."""


class Hold:
    """Counts the bytes that all requests of a route together keep in memory."""

    def __init__(self, limit: int, *, each: int) -> None:
        """`limit` bytes of all, `each` of one."""
        self._limit = limit
        self._each = each
        self._held = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, counted until the block ends. Raises Full or TooLarge before more is read."""
        chunks, size = [], 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                self._held += len(chunk)
                if size > self._each:
                    raise TooLarge
                if self._held > self._limit:
                    raise Full
                chunks.append(chunk)
            yield b"".join(chunks)
        finally:
            self._held -= size
