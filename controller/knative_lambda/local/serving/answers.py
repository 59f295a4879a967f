"""Reads one HTTP/1.1 answer from bytes as they come. Pure; fed by upstream.

Written for answers that may be hostile and are taken whole: framing that could be read in two ways is refused, and
everything has a limit. Interim answers (1xx) are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field

HEAD_BYTES = 64 * 1024
HEADERS = 200
INTERIM = 20
CHUNK_LINE = 1024
BODILESS = (204, 304)

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n\0]*)?")


class Broken(Exception):
    """What came is no answer that can be passed on."""


@dataclass(slots=True)
class Raw:
    """An answer as it was sent; names of headers in small letters."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    reusable: bool = False
    """Whether the connection may carry another request."""


class AnswerReader:
    """For one answer. `feed` until it says that the answer is whole; `close` when the connection ends."""

    def __init__(self, *, to_head: bool, limit: int) -> None:
        """`to_head`: the request was a HEAD. `limit`: bytes of body."""
        self.answer = Raw()
        self._to_head = to_head
        self._limit = limit
        self._buffer = bytearray()
        self._ended = False
        self._until_end = False
        self._steps = self._read()
        next(self._steps)

    def feed(self, data: bytes) -> bool:
        """Raises Broken. More than the answer makes the connection useless for another one."""
        self._buffer += data
        return self._step()

    def close(self) -> bool:
        """The connection ended; True when the answer is whole, which only one without a length can be now."""
        self._ended = True
        return self._until_end and self._step()

    def _step(self) -> bool:
        try:
            next(self._steps)
        except StopIteration:
            self.answer.reusable = self.answer.reusable and not self._buffer and not self._ended
            return True
        return False

    # Each generator below stops wherever it needs more bytes.

    def _read(self) -> Generator[None, None, None]:
        for _ in range(INTERIM):
            yield from self._head()
            if self.answer.status >= 200:
                break
        else:
            raise Broken("too many interim answers")
        yield from self._body()

    def _head(self) -> Generator[None, None, None]:
        head = yield from self._until(b"\r\n\r\n", HEAD_BYTES)
        first, *lines = head.split(b"\r\n")
        found = _STATUS.fullmatch(first)
        if found is None or len(lines) > HEADERS:
            raise Broken("no status line, or too many headers")
        self.answer.status = int(found[2])
        if self.answer.status == 101:
            raise Broken("a change of protocol")
        self.answer.headers = [_header(line) for line in lines]
        spoken = self._tokens("connection")
        self.answer.reusable = "close" not in spoken and (found[1] == b"1" or "keep-alive" in spoken)

    def _body(self) -> Generator[None, None, None]:
        if self._to_head or self.answer.status in BODILESS:
            return
        codings, lengths = self._tokens("transfer-encoding"), set(self._tokens("content-length"))
        if codings:
            if codings != ["chunked"] or lengths:
                raise Broken("a body whose end can be read in two ways")
            yield from self._chunks()
        elif lengths:
            self.answer.body = yield from self._exactly(self._length(lengths))
        else:
            yield from self._rest()

    def _length(self, lengths: set[str]) -> int:
        length = lengths.pop()
        if lengths or not (length.isascii() and length.isdigit()) or len(length) > 15:
            raise Broken("no valid length")
        return self._bounded(int(length))

    def _bounded(self, size: int) -> int:
        if size > self._limit:
            raise Broken(f"an answer of more than {self._limit} bytes")
        return size

    def _rest(self) -> Generator[None, None, None]:
        self._until_end = True
        self.answer.reusable = False
        while not self._ended:
            self._bounded(len(self._buffer))
            yield
        self._bounded(len(self._buffer))
        self.answer.body = bytes(self._buffer)
        self._buffer.clear()

    def _chunks(self) -> Generator[None, None, None]:
        parts, size = [], 0
        while True:
            found = _CHUNK.fullmatch((yield from self._until(b"\r\n", CHUNK_LINE)))
            if found is None:
                raise Broken("no valid chunk")
            length = int(found[1], 16)
            if length == 0:
                break
            size = self._bounded(size + length)
            parts.append((yield from self._exactly(length)))
            if (yield from self._exactly(2)) != b"\r\n":
                raise Broken("no valid chunk")
        for _ in range(HEADERS):
            if not (yield from self._until(b"\r\n", HEAD_BYTES)):
                self.answer.body = b"".join(parts)
                return
        raise Broken("too many trailers")

    def _until(self, mark: bytes, limit: int) -> Generator[None, None, bytes]:
        """What stands before the mark; both are taken."""
        searched = 0
        while (place := self._buffer.find(mark, searched)) < 0:
            if len(self._buffer) > limit:
                raise Broken("a line without an end")
            searched = max(0, len(self._buffer) - len(mark) + 1)
            yield
        if place > limit:
            raise Broken("a line that is too long")
        taken = bytes(self._buffer[:place])
        del self._buffer[: place + len(mark)]
        return taken

    def _exactly(self, size: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < size:
            yield
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _tokens(self, wanted: str) -> list[str]:
        values = (value for name, value in self.answer.headers if name == wanted)
        return [token.strip().lower() for value in values for token in value.split(",")]


def _header(line: bytes) -> tuple[str, str]:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise Broken("no valid header")
    return found[1].decode("latin-1").lower(), found[2].rstrip(b" \t").decode("latin-1")
