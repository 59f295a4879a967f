"""The files of one revision, wherever they lie: a commit in a bare mirror, or a directory on disk.

Nothing here follows a symbolic link. Called by discovery, through checkout or `kn-lambda validate`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from knative_lambda.api.conditions import Reason
from knative_lambda.kit import digest
from knative_lambda.sources.base import SourceError

ENTRY_LIMIT = 200_000
"""Entries of one tree; more is refused before they fill the memory."""
_NOT_CONTENT = frozenset({".git", "node_modules", "__pycache__", ".venv"})
"""What a working directory holds and a commit does not."""


class Mode(StrEnum):
    """What stands behind a path."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    SUBMODULE = "submodule"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree. Equal ids mean equal content, also between revisions."""

    path: str
    mode: Mode
    size: int
    id: str


class Tree(Protocol):
    """A frozen set of files. Paths are relative to the root, with `/`, without `.` and `..`."""

    def entries(self, prefix: str = "") -> Iterable[Entry]:
        """Everything below a directory at any depth, directories included; nothing when it is not there."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """Content of a file, or target of a link, cut after `limit` bytes. FileNotFoundError when it is not there."""
        ...

    def subtree_id(self, path: str) -> str:
        """Identity of the file or directory's content; empty when nothing is there."""
        ...


class DirectoryTree:
    """A directory on disk, read once. Links are entries, never followed, so nothing outside the root is read."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve(strict=True)
        self._entries: dict[str, Entry] = {}
        self._directory(self._root, "")

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        below = f"{prefix}/" if prefix else ""
        return (entry for path, entry in sorted(self._entries.items()) if path and path.startswith(below))

    def read(self, path: str, limit: int) -> bytes:
        entry = self._entries.get(path)
        if entry is None or entry.mode is Mode.DIRECTORY:
            raise FileNotFoundError(f"{path} is not a file of this tree")
        place = self._root / path
        if entry.mode is Mode.LINK:
            return os.fsencode(place.readlink())[:limit]
        with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read(limit)

    def subtree_id(self, path: str) -> str:
        entry = self._entries.get(path)
        return entry.id if entry else ""

    def _directory(self, place: Path, path: str) -> str:
        """Records a directory and everything below it; returns its id."""
        children = []
        for item in sorted(os.scandir(place), key=lambda item: item.name):
            if item.name not in _NOT_CONTENT:
                inner = f"{path}/{item.name}" if path else item.name
                children.append((item.name, self._item(item, inner)))
        identity = digest.digest("directory", children)
        self._keep(Entry(path, Mode.DIRECTORY, 0, identity))
        return identity

    def _item(self, item: os.DirEntry[str], path: str) -> str:
        if item.is_symlink():
            target = Path(item.path).readlink()
            return self._keep(Entry(path, Mode.LINK, 0, digest.digest("link", str(target))))
        if item.is_dir(follow_symlinks=False):
            return self._directory(Path(item.path), path)
        if not item.is_file(follow_symlinks=False):
            raise SourceError(Reason.SOURCE_REFUSED, f"{path} is neither a file, a directory nor a link")
        size = item.stat(follow_symlinks=False).st_size
        return self._keep(Entry(path, Mode.FILE, size, _content_id(Path(item.path))))

    def _keep(self, entry: Entry) -> str:
        if len(self._entries) >= ENTRY_LIMIT:
            raise SourceError(Reason.SOURCE_REFUSED, f"the tree has more than {ENTRY_LIMIT} entries")
        self._entries[entry.path] = entry
        return entry.id


def _content_id(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
