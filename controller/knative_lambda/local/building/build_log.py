"""What a build's programs print: kept in a file of bounded size, secrets masked, its last lines at hand.

Written by commands and workshop in a build's thread; the end becomes the termination message.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from knative_lambda.api.meta import Key
from knative_lambda.kit import redact

LOG_BYTES = 1024 * 1024
"""Of one build; what comes later is counted, and its last lines are kept."""
KEPT_LOGS = 200
TAIL_LINES, TAIL_CHARACTERS = 80, 3500
"""Of the end; a kubelet keeps 4,096 bytes of a termination message."""
LINE_CHARACTERS = 2000


class BuildLog:
    """One build's log; a context manager, for one thread."""

    def __init__(self, file: Path, *, limit: int = LOG_BYTES) -> None:
        """Replaces the log of an earlier attempt."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = file.open("wb")
        self._limit = limit
        self._written = 0
        self._left_out = 0
        self._rest = b""
        self._noise: tuple[str, ...] = ()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        if self._left_out:
            self._file.write(f"... {self._left_out} bytes are left out; the end was:\n{self.tail()}\n".encode())
        self._file.close()

    def feed(self, chunk: bytes) -> None:
        """Output as it comes; a line that does not end is cut, for memory's sake."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LINE_CHARACTERS:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._take(line)

    def say(self, words: str) -> None:
        """A line of ours."""
        self._flush()
        self._take(f"# {words}".encode(), tail=False)

    def begin(self, noise: tuple[str, ...] = ()) -> None:
        """The next program's output is what `tail` tells of, but for lines that begin with `noise`."""
        self._flush()
        self._tail.clear()
        self._noise = noise

    def tail(self) -> str:
        """The last lines, without the empty ones."""
        self._flush()
        return redact.clip(redact.text("\n".join(self._tail)), TAIL_CHARACTERS)

    def _flush(self) -> None:
        rest, self._rest = self._rest, b""
        if rest:
            self._take(rest)

    def _take(self, line: bytes, *, tail: bool = True) -> None:
        text = redact.text(line[:LINE_CHARACTERS].decode("utf-8", "replace").rstrip())
        if tail and text and not text.startswith(self._noise):
            self._tail.append(text)
        encoded = text.encode() + b"\n"
        if self._written + len(encoded) > self._limit:
            self._left_out += len(line) + 1
            return
        self._file.write(encoded)
        self._written += len(encoded)


def place(folder: Path, job: Key) -> Path:
    """Where a Job's log is."""
    return folder / job.namespace / f"{job.name}.log"


def prune(folder: Path, *, keep: int = KEPT_LOGS) -> None:
    """Deletes the oldest logs beyond `keep`."""
    files = sorted(folder.glob("*/*.log"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[keep:]:
        file.unlink(missing_ok=True)
