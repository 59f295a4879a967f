"""Writes files below a directory and lets nothing out of it. Called by git, inline and context."""

from __future__ import annotations

import os
import posixpath
import shutil
from pathlib import Path

from knative_lambda.api.conditions import Reason
from knative_lambda.sources.base import SourceError

FILE_MODE = 0o644
PROGRAM_MODE = 0o755
DIRECTORY_MODE = 0o755
_FORBIDDEN = frozenset({"", ".", "..", ".git"})


def check_path(path: str) -> None:
    """Raises SourceError for a relative path with a part that could lead elsewhere."""
    for part in path.split("/"):
        if part.lower() in _FORBIDDEN or "\0" in part or "\\" in part:
            raise SourceError(Reason.SOURCE_REFUSED, f"the path {_shown(path)} is not one that a file may have")


def write_file(root: Path, path: str, content: bytes, *, mode: int = FILE_MODE) -> None:
    """A new regular file; SourceError when something is there already."""
    check_path(path)
    place = root / path
    make_directory(root, posixpath.dirname(path))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(place, flags, mode), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
    except FileExistsError as error:
        raise SourceError(Reason.SOURCE_REFUSED, f"the source holds {_shown(path)} twice") from error


def make_directory(root: Path, path: str) -> None:
    """That directory and those above it up to `root`; SourceError when a file stands in the way."""
    place = root
    for part in path.split("/") if path else []:
        place = place / part
        try:
            place.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise SourceError(Reason.SOURCE_REFUSED, f"{_shown(path)} is both a file and a directory") from error
        place.chmod(DIRECTORY_MODE)


def write_link(root: Path, path: str, target: str) -> None:
    """A symbolic link that stays inside `root`. Write links last: no file may be written through one."""
    check_path(path)
    if not stays_inside(path, target):
        words = f"the symbolic link {_shown(path)} leads out of the function's directory: {_shown(target)}"
        raise SourceError(Reason.SOURCE_REFUSED, words)
    make_directory(root, posixpath.dirname(path))
    try:
        (root / path).symlink_to(target)
    except FileExistsError as error:
        raise SourceError(Reason.SOURCE_REFUSED, f"the source holds {_shown(path)} twice") from error


def stays_inside(path: str, target: str) -> bool:
    """Whether a link at `path` leads to somewhere below the root.

    `..` may only stand at the beginning, where the directories above the link are real: after the name of another
    link it would climb from wherever that one leads.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((count for count, part in enumerate(parts) if part != ".."), len(parts))
    depth = path.count("/")
    return bool(target) and not target.startswith("/") and climbs <= depth and ".." not in parts[climbs:]


def _shown(path: str) -> str:
    return repr(path[:200])


def copy(source: Path, root: Path, name: str) -> None:
    """The directory `source`, which was written by this module, again as `root/name`; links stay links."""
    shutil.copytree(source, root / name, symlinks=True)
