"""Where local mode's functions come from: a folder as it is saved, a git directory as it is committed, or a URL.

Called by dev, which serves `git_dir` to gitsync and asks it to look whenever `changes` has something new.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from knative_lambda.local.worktree import BRANCH, WorkTree

QUIET_SECONDS = 0.05
"""An editor writes several files for one save; so long nothing may happen before it counts as saved."""
PATIENCE_SECONDS = 0.5
"""And so long it may go on before it counts all the same."""
_NO_MATTER = frozenset({".git", "node_modules", "__pycache__", ".venv", "venv"})
_NO_MATTER_IN_GIT = frozenset({"objects", "logs", "lfs", "hooks"})
_WATCHED_TWICE = "Callback with id"
"""How watchdog's warning begins when folders come in folders that have just come; it does no harm."""
_ONLY_READ = frozenset({"opened", "closed_no_write"})


class OriginError(Exception):
    """There are no functions to be had from what was named; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One of `git_dir` and `url` is set."""

    name: str
    """Of the FunctionRepository."""
    git_dir: Path | None = None
    """Served to gitsync; it holds the functions."""
    url: str = ""
    """A repository that is served by somebody else."""
    branch: str = ""
    """The default branch when empty."""
    path: str = ""
    """Directory of the functions inside the repository."""
    watched: Path | None = None
    """Where a change may mean another commit."""
    apart: Path | None = None
    """Our own state, which may lie in `watched`: nothing in it is a change."""
    worktree: WorkTree | None = None
    """What makes commits of a folder's states; None where somebody commits."""


def of(place: str, *, state: Path, watch: bool | None) -> Origin:
    """`watch`: also what is not committed; by default wherever there are files. Raises OriginError."""
    place = place.removeprefix("file://")
    if "://" in place:
        return Origin(name=_named(urlsplit(place).path), url=place)
    folder = Path(place).expanduser()
    if not folder.is_dir():
        words = "name a folder of functions, a git repository or a URL that begins with https:// or ssh://"
        raise OriginError(f"{place}: there is no such directory; {words}")
    folder = folder.resolve()
    if _is_bare(folder):
        if watch:
            raise OriginError(f"{place} is a bare repository: it has no files that could be watched; leave --watch out")
        return Origin(name=_named(str(folder)), git_dir=folder, watched=folder)
    if watch is False:
        return _committed(place, folder)
    worktree = WorkTree(folder, state / "repository.git", apart=state)
    name = _named(str(folder))
    return Origin(name, worktree.git_dir, branch=BRANCH, watched=folder, apart=state.resolve(), worktree=worktree)


def _committed(place: str, folder: Path) -> Origin:
    """The repository that the folder lies in."""
    for top in (folder, *folder.parents):
        if (top / ".git").is_dir():
            path = "" if top == folder else folder.relative_to(top).as_posix()
            return Origin(_named(str(folder)), top / ".git", path=path, watched=top / ".git")
    raise OriginError(f"{place} lies in no git repository: nothing is ever committed there; leave --no-watch out")


def _is_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def _named(path: str) -> str:
    """A name that Kubernetes accepts."""
    last = path.rstrip("/").rpartition("/")[2].removesuffix(".git").lower()
    name = "".join(one if one.isascii() and one.isalnum() else "-" for one in last).strip("-")
    return name[:40].strip("-") or "functions"


@asynccontextmanager
async def changes(origin: Origin) -> AsyncIterator[asyncio.Event]:
    """An event that is set whenever something changed where commits may come from."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    warnings.filterwarnings("ignore", _WATCHED_TWICE, RuntimeWarning)
    observer = Observer()
    if origin.watched is not None:
        handler = _Handler(origin, lambda: loop.call_soon_threadsafe(changed.set))
        observer.schedule(handler, str(origin.watched), recursive=True)
    await asyncio.to_thread(observer.start)
    try:
        yield changed
    finally:
        observer.stop()
        await asyncio.to_thread(observer.join)


async def settled(changed: asyncio.Event) -> None:
    """Waits for a change, and then until nothing more comes for a moment."""
    await changed.wait()
    until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while changed.is_set() and asyncio.get_running_loop().time() < until:
        changed.clear()
        await asyncio.sleep(QUIET_SECONDS)
    changed.clear()


class _Handler(FileSystemEventHandler):
    """Called in watchdog's own thread."""

    def __init__(self, origin: Origin, tell: Callable[[], object]) -> None:
        self._folder = origin.watched or Path()
        self._apart = origin.apart
        self._no_matter = _NO_MATTER if origin.worktree else _NO_MATTER_IN_GIT
        self._tell = tell

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _ONLY_READ and any(map(self._matters, (event.src_path, event.dest_path))):
            self._tell()

    def _matters(self, path: bytes | str) -> bool:
        """Empty for an event that moved nothing."""
        if not path:
            return False
        whole = Path(os.fsdecode(path))
        if self._apart is not None and whole.is_relative_to(self._apart):
            return False
        inner = whole.relative_to(self._folder)
        return not self._no_matter.intersection(inner.parts)
