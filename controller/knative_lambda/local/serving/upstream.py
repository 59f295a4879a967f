"""Connections to functions on loopback. Called by forwarding.

A general client costs as much as all the rest of the way of a request, and repeats some requests by itself; a function
would then be called twice. Here every request is sent once, on a connection that is kept for the next one for so short
a time that no server has closed it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from knative_lambda.local.serving.answers import AnswerReader, Broken, Raw

IDLE_SECONDS = 1.0
"""Shorter than any function server keeps an idle connection: who closes first must be we, or a request is lost."""
CONNECT_SECONDS = 5.0
WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests say that they have no body."""


class NotTaken(Exception):
    """There was no connection: the request cannot have been seen."""


class Lost(Exception):
    """The connection ended before the answer came; the request may have been carried out."""


def head(method: str, target: str, headers: Iterable[tuple[str, str]], *, length: int) -> bytes:
    """What is sent before the body. A header that would be read as two is left out."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers if _is_one_line(name) and _is_one_line(value)]
    if length or method in WITH_LENGTH:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode(errors="surrogateescape")


def _is_one_line(text: str) -> bool:
    return "\n" not in text and "\r" not in text and "\0" not in text


class Upstream:
    """Connections by port, those that are idle kept for a moment. One event loop owns it."""

    def __init__(self, *, answer_bytes: int) -> None:
        self._answer_bytes = answer_bytes
        self._idle: defaultdict[int, deque[_Connection]] = defaultdict(deque)

    async def send(self, port: int, message: bytes, body: bytes, *, to_head: bool) -> Raw:
        """One request. Raises NotTaken, Lost or Broken. When it is cancelled, its connection ends."""
        connection = self._kept(port) or await _connected(port)
        reader = AnswerReader(to_head=to_head, limit=self._answer_bytes)
        try:
            answer = await connection.ask(message, body, reader)
        except BaseException:
            connection.abort()
            raise
        if answer.reusable:
            self._keep(port, connection)
        else:
            connection.abort()
        return answer

    def close(self) -> None:
        """Ends what is idle."""
        for kept in self._idle.values():
            for connection in kept:
                connection.abort()
        self._idle.clear()

    def _kept(self, port: int) -> _Connection | None:
        """The one that was used last: it lives longest. Those that are too old are ended."""
        kept = self._idle.get(port)
        while kept:
            connection = kept.pop()
            if connection.is_fresh():
                return connection
            connection.abort()
        return None

    def _keep(self, port: int, connection: _Connection) -> None:
        kept = self._idle[port]
        kept.append(connection)
        connection.rest(lambda: self._forget(port, connection))

    def _forget(self, port: int, connection: _Connection) -> None:
        connection.abort()
        kept = self._idle.get(port)
        if kept is not None and connection in kept:
            kept.remove(connection)
            if not kept:
                del self._idle[port]


async def _connected(port: int) -> _Connection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
    except (OSError, TimeoutError) as error:
        raise NotTaken from error
    return connection


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: AnswerReader | None = None
        self._waiting: asyncio.Future[Raw] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._rested_at = 0.0

    async def ask(self, message: bytes, body: bytes, reader: AnswerReader) -> Raw:
        """Sends, and waits for the whole answer."""
        if self._transport is None or self._transport.is_closing():
            raise Lost
        self._calm()
        self._reader, self._waiting = reader, self._loop.create_future()
        self._transport.write(message + body if len(body) < 65536 else message)
        if len(body) >= 65536:
            self._transport.write(body)
        try:
            return await self._waiting
        finally:
            self._reader = self._waiting = None

    def is_fresh(self) -> bool:
        """Whether the server must still be there. An alarm may be late on a busy loop, so the clock is asked, too."""
        closed = self._transport is None or self._transport.is_closing()
        return not closed and self._loop.time() - self._rested_at < IDLE_SECONDS

    def rest(self, on_age: Callable[[], None]) -> None:
        """Until the next request, or `on_age` when there is none in time."""
        self._rested_at = self._loop.time()
        self._alarm = self._loop.call_later(IDLE_SECONDS, on_age)

    def abort(self) -> None:
        self._calm()
        if self._transport is not None:
            self._transport.abort()

    def _calm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._waiting is None or self._waiting.done():
            self.abort()  # nobody asked
            return
        try:
            if self._reader.feed(data):
                self._waiting.set_result(self._reader.answer)
        except Broken as error:
            self._waiting.set_exception(error)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._calm()
        self._transport = None
        if self._reader is None or self._waiting is None or self._waiting.done():
            return
        try:
            whole = self._reader.close()
        except Broken as error:
            self._waiting.set_exception(error)
            return
        if whole:
            self._waiting.set_result(self._reader.answer)
        else:
            self._waiting.set_exception(Lost())
