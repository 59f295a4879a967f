"""What one instance prints, in a file that never grows beyond its limit. Called by processes; read by `kn-lambda logs`.

Two files: NAME.log is written, and when it is full it becomes NAME.log.1 in place of the older one. The last lines are
also kept in memory, for the status of a function that does not start.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import BinaryIO

import structlog

from knative_lambda.kit import redact

TAIL_BYTES = 8 * 1024
MESSAGE_LINES = 20
MESSAGE_LIMIT = 2000
"""Characters of a tail that go into a status."""
LINE_LIMIT = 400
"""Characters of one line there."""

log = structlog.get_logger(__name__)


class InstanceLog:
    """Bytes in, two files of `limit / 2` bytes at most out."""

    def __init__(self, path: Path, *, limit: int) -> None:
        self.path = path
        self._half = max(1, limit // 2)
        self._file: BinaryIO | None = None
        self._size = 0
        self._tail: deque[bytes] = deque()
        self._kept = 0

    def write(self, data: bytes) -> None:
        """Never raises: a full disk must not end the function, the end of its output is still known."""
        self._keep(data)
        try:
            self._store(data)
        except OSError as error:
            log.warning("output of a function is not kept", file=self.path.name, error=str(error.strerror))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def tail(self) -> str:
        """The last lines, without secrets of a known form, and short enough for a status."""
        text = b"".join(self._tail)[-TAIL_BYTES:].decode(errors="replace").replace("\0", "")
        lines = [line.rstrip()[:LINE_LIMIT] for line in text.splitlines() if line.strip()]
        return redact.clip(redact.text("\n".join(lines[-MESSAGE_LINES:])), MESSAGE_LIMIT)

    def _keep(self, data: bytes) -> None:
        part = data[-TAIL_BYTES:]
        self._tail.append(part)
        self._kept += len(part)
        while self._kept - len(self._tail[0]) >= TAIL_BYTES:
            self._kept -= len(self._tail.popleft())

    def _store(self, data: bytes) -> None:
        while data:
            file = self._opened()
            written = file.write(data[: self._half - self._size])
            self._size += written
            data = data[written:]
            if self._size >= self._half:
                self._rotate()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
            self._size = self._file.tell()
            if self._size >= self._half:
                self._rotate()
                return self._opened()
        return self._file

    def _rotate(self) -> None:
        self.close()
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._size = 0
