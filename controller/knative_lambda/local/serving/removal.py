"""Removes the folder of an instance, whatever a function has made of it. Called by processes, in a thread.

`shutil.rmtree` would not do: it goes down by calling itself and holds a file open per level, so folders a thousand
deep, which a line of code makes, end it. Here what is deep is moved up first, so that nothing grows with the depth.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

AT_ONCE = 10_000
"""Names that are held in memory."""


def remove(folder: Path) -> None:
    """A folder that is gone is no error. Blocks. Raises OSError, and leaves the rest for another attempt."""
    try:
        with _entered(str(folder)) as root:
            while names := _names(root):
                for name, is_folder in names:
                    _remove_entry(name, root, is_folder=is_folder)
    except FileNotFoundError:
        if folder.exists():
            raise
        return
    folder.rmdir()


def _remove_entry(name: str, root: int, *, is_folder: bool) -> None:
    if not is_folder:
        os.unlink(name, dir_fd=root)
        return
    with _entered(name, at=root) as inner:
        while names := _names(inner):
            for each, is_deeper in names:
                if is_deeper:
                    _move_up(each, inner, root)
                else:
                    os.unlink(each, dir_fd=inner)
    os.rmdir(name, dir_fd=root)


def _move_up(name: str, parent: int, root: int) -> None:
    """Entered first, for whoever moves a folder must be allowed to write into it."""
    with _entered(name, at=parent):
        os.rename(name, secrets.token_hex(16), src_dir_fd=parent, dst_dir_fd=root)


@contextmanager
def _entered(name: str, *, at: int | None = None) -> Iterator[int]:
    """Never by a link. Changes rights through the number of what is open: only that can be no other thing meanwhile."""
    how = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(name, how, dir_fd=at)
    except PermissionError:  # not root, whose rights are not asked; all that we may change is our own
        os.chmod(name, 0o700, dir_fd=at)
        folder = os.open(name, how, dir_fd=at)
    try:
        os.fchmod(folder, 0o700)
        yield folder
    finally:
        os.close(folder)


def _names(folder: int) -> list[tuple[str, bool]]:
    """Of some of its entries, and whether each is a folder."""
    with os.scandir(folder) as found:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(found, AT_ONCE)]
