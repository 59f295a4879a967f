"""Cuts the body of a watch into lines, in time that grows with the bytes and not with the chunks of a line."""

from __future__ import annotations

from knative_lambda.cluster.base import Unavailable


class LineSplitter:
    """Feed it chunks, get whole lines. A line over `limit` bytes raises Unavailable: nothing valid is that long."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether the stream stopped inside a line."""
        return self._size > 0

    def feed(self, chunk: bytes) -> list[bytes]:
        head, *rest = chunk.split(b"\n")
        self._keep(head)
        if not rest:
            return []
        *middle, tail = rest
        lines = [b"".join(self._parts), *middle]
        self._parts, self._size = [], 0
        self._keep(tail)
        return [line for line in lines if line]

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._size += len(part)
        if self._size > self._limit:
            raise Unavailable(f"watch: a line of more than {self._limit} bytes")
        self._parts.append(part)
