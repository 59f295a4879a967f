"""Logs that local mode keeps in files: of instances (two files each, as local.instance_log writes them) and of builds.

Called by `kn-lambda logs`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from knative_lambda.api.meta import Key
from knative_lambda.cli.loglines import Line, Lines
from knative_lambda.kit.clock import Clock
from knative_lambda.local import state

POLL_SECONDS = 0.2
_BLOCK = 64 * 1024
_OLDER = ".1"


def of_function(folder: Path, key: Key) -> list[Path]:
    """Files of its instances, the one that was written last at the end."""
    return _by_age(state.function_logs(folder, key).glob("*.log"))


def of_builds(folder: Path, key: Key) -> list[Path]:
    """Files of its build Jobs, the newest build at the end; builds may run in another namespace."""
    logs, named = state.build_logs(folder), re.compile(rf"{re.escape(key.name)}-[0-9a-f]{{10}}\.log")
    found = [path for path in logs.glob("*/*.log") if named.fullmatch(path.name)]
    near = [path for path in found if path.parent.name == key.namespace]
    return _by_age(near or found)


def existing(files: list[Path], *, tail: int, sizes: Mapping[Path, int] = MappingProxyType({})) -> Iterator[Line]:
    """The last `tail` lines of them all, file by file; of those in `sizes` only so many bytes. Raises OSError."""
    chosen: list[list[Line]] = []
    left = tail
    for path in reversed(files):
        if left <= 0:
            break
        lines = _last(path, left, sizes.get(path))
        left -= len(lines)
        chosen.append(lines)
    for lines in reversed(chosen):
        yield from lines


async def following(
    files: list[Path], look: Callable[[], list[Path]], *, tail: int, clock: Clock
) -> AsyncGenerator[Line, None]:
    """The same, then what is written to whatever files `look` finds; for ever. Raises OSError."""
    places = {path: _Place.at_end(path) for path in look()}
    sizes = {path: place.offset for path, place in places.items()}
    for line in existing(files, tail=tail, sizes=sizes):
        yield line
    while True:
        for path in look():
            for line in places.setdefault(path, _Place(path)).read():
                yield line
        await clock.sleep(POLL_SECONDS)


@dataclass(slots=True)
class _Place:
    """How far one file was read."""

    path: Path
    inode: int = 0
    offset: int = 0
    lines: Lines | None = None

    @classmethod
    def at_end(cls, path: Path) -> _Place:
        found = path.stat()
        return cls(path, found.st_ino, found.st_size)

    def read(self) -> Iterator[Line]:
        """What is new. A full file was renamed, and its rest is read there; a file that was begun anew is shorter."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return
        if self.inode and found.st_ino != self.inode:
            older = _older(self.path)
            if older.is_file() and older.stat().st_ino == self.inode:
                yield from self._from(older)
            self.offset = 0
        elif found.st_size < self.offset:
            self.offset = 0
        self.inode = found.st_ino
        yield from self._from(self.path)

    def _from(self, path: Path) -> Iterator[Line]:
        if self.lines is None:
            self.lines = Lines(self.path.stem)
        try:
            with path.open("rb") as file:
                file.seek(self.offset)
                while chunk := file.read(_BLOCK):
                    self.offset += len(chunk)
                    yield from self.lines.feed(chunk)
        except FileNotFoundError:
            return


def _last(path: Path, count: int, size: int | None) -> list[Line]:
    """The last lines of a log, of its older part as well when the newer one has too few."""
    content = _end(path, count, size)
    if content.count(b"\n") < count and (older := _older(path)).is_file():
        content = _end(older, count - content.count(b"\n"), None) + content
    lines = Lines(path.stem)
    return [*lines.feed(content), *lines.end()][-count:]


def _end(path: Path, count: int, size: int | None) -> bytes:
    """Bytes of the file's end, with that many lines in them at least, where it has so many."""
    try:
        with path.open("rb") as file:
            whole = file.seek(0, 2)
            at, blocks, newlines = whole if size is None else min(size, whole), [], 0
            while at > 0 and newlines <= count:
                part = min(_BLOCK, at)
                at = file.seek(at - part)
                blocks.append(file.read(part))
                newlines += blocks[-1].count(b"\n")
    except FileNotFoundError:  # rotated or pruned this moment
        return b""
    return b"".join(reversed(blocks))


def _older(path: Path) -> Path:
    return path.with_name(path.name + _OLDER)


def _by_age(paths: Iterable[Path]) -> list[Path]:
    """The one that was written last at the end; what went meanwhile is left out."""
    aged = []
    for path in paths:
        try:
            aged.append((path.stat().st_mtime_ns, path.name, path))
        except FileNotFoundError:
            continue
    return [path for _, _, path in sorted(aged)]
