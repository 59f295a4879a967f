"""Whole folders: their identity, their size, a copy that costs no space, and how they are protected and removed.

Called by images, workshop and the toolchains; blocking.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_ATTEMPTS, _PAUSE = 5, 0.1
_REWRITTEN_BYTES = 256 * 1024

Inode = tuple[int, int]


def identity(root: Path) -> str:
    """64 hex characters over paths, contents, links and which files are programs; times and owners do not count."""
    found = hashlib.sha256()
    for path in sorted(_below(root)):
        place = path.relative_to(root).as_posix().encode("utf-8", "surrogateescape")
        kind, content = _content(path)
        found.update(b"%s %d:%s %d:" % (kind, len(place), place, len(content)))
        found.update(content)
    return found.hexdigest()


def _content(path: Path) -> tuple[bytes, bytes]:
    if path.is_symlink():
        return b"link", os.fsencode(path.readlink())
    if path.is_dir():
        return b"directory", b""
    kind = b"program" if path.stat().st_mode & stat.S_IXUSR else b"file"
    with path.open("rb") as file:
        return kind, hashlib.file_digest(file, "sha256").digest()


def inodes(root: Path) -> dict[Inode, int]:
    """Bytes of each plain file; those with several names once."""
    found: dict[Inode, int] = {}
    for path in _below(root):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            found[status.st_dev, status.st_ino] = status.st_size
    return found


def linked_copy(source: Path, into: Path) -> None:
    """`source` again as the new folder `into`, its files being the same files where the file system can do that."""
    shutil.copytree(source, into, symlinks=True, copy_function=_linked)


def _linked(source: str, into: str) -> None:
    try:
        os.link(source, into, follow_symlinks=False)
    except OSError:  # another file system, or too many names
        shutil.copy2(source, into, follow_symlinks=False)


def replaced(file: Path, old: Path, new: Path) -> None:
    """In a small text file, one path by another. Writes a new file, for others may be linked to this one."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size > _REWRITTEN_BYTES:
        return
    content = file.read_bytes()
    wanted = content.replace(os.fsencode(old), os.fsencode(new))
    if wanted == content:
        return
    made = file.with_name(f"{file.name}.new")
    made.write_bytes(wanted)
    shutil.copymode(file, made)
    made.replace(file)


def protect(root: Path) -> None:
    """Takes the right to write from every plain file. Folders keep it, or `rm -r` would fail for who owns them."""
    for path in _below(root):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            path.chmod(stat.S_IMODE(mode) & ~_WRITE)


def remove(root: Path) -> None:
    """The folder with all that is in it, whatever its rights; nothing to do when it is not there."""
    for attempt in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            for folder in (root, *_folders(root)):
                folder.chmod(stat.S_IRWXU)
        shutil.rmtree(root, ignore_errors=attempt < _ATTEMPTS - 1)
        if not root.exists():
            return
        time.sleep(_PAUSE)  # something that is being ended still writes there


def _below(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        yield from (Path(folder, name) for name in (*names, *files))


def _folders(root: Path) -> Iterator[Path]:
    """Upper ones first, so that a lower one can be reached once the upper has its rights."""
    for folder, names, _ in os.walk(root):
        yield from (path for name in names if not (path := Path(folder, name)).is_symlink())
