"""Lines of logs, whole, and where they come from. Called by podlogs, logfiles and `kn-lambda logs`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LINE_LIMIT = 64 * 1024
"""Bytes of one line; what is longer is broken."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, or with `is_problem` what is to be said instead of lines."""

    origin: str
    """Pod and container, instance, or Job."""
    text: str
    is_problem: bool = False


class Lines:
    """Bytes of one origin in, whole lines out."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Line]:
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LINE_LIMIT:
            whole.append(self._rest)
            self._rest = b""
        yield from map(self._line, whole)

    def end(self) -> Iterator[Line]:
        """A last line that was never ended."""
        rest, self._rest = self._rest, b""
        if rest:
            yield self._line(rest)

    def _line(self, raw: bytes) -> Line:
        return Line(self.origin, raw.decode("utf-8", "replace").removesuffix("\r"))
