"""The memory twin of `checkout`: repositories as dicts of files. Used by local mode and by tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from knative_lambda.api.conditions import Reason
from knative_lambda.gitsync.base import Remote
from knative_lambda.gitsync.tree import Entry, Mode, Tree
from knative_lambda.kit import digest
from knative_lambda.sources.base import SourceError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


Files = Mapping[str, str | Link]


class MemoryTree:
    """Files of a dict: path -> text."""

    def __init__(self, files: Files) -> None:
        self._texts = {path: one.target if isinstance(one, Link) else one for path, one in files.items()}
        self._entries = {path: _entry(path, one) for path, one in files.items()}
        for directory in {parent for path in files for parent in _parents(path)}:
            below = sorted((path, one.id) for path, one in self._entries.items() if path.startswith(f"{directory}/"))
            inner = [(path[len(directory) :], identity) for path, identity in below if path in files]
            self._entries[directory] = Entry(directory, Mode.DIRECTORY, 0, digest.digest(inner))
        self._root = digest.digest(sorted((path, self._entries[path].id) for path in files))

    def entries(self, prefix: str = "") -> Iterable[Entry]:
        below = f"{prefix}/" if prefix else ""
        return [entry for path, entry in sorted(self._entries.items()) if path.startswith(below)]

    def read(self, path: str, limit: int) -> bytes:
        if path not in self._texts:
            raise FileNotFoundError(f"{path} is not a file of this tree")
        return self._texts[path].encode()[:limit]

    def subtree_id(self, path: str) -> str:
        if not path:
            return self._root
        entry = self._entries.get(path)
        return entry.id if entry else ""


class MemoryCheckout:
    """The port `Checkout` in memory. `push` moves a branch, `fail_next` plays a bad day, `calls` counts."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {"ls_remote": 0, "fetch": 0, "inspect": 0, "verify": 0}
        self.signed: set[str] = set()
        """Commits that verify accepts."""
        self._branches: dict[tuple[str, str], str] = {}
        self._commits: dict[str, Files] = {}
        self._fetched: set[str] = set()
        self._failures: list[SourceError] = []
        self._pushes = 0

    def push(self, url: str, files: Files, *, branch: str = "main") -> str:
        """Makes `files` the whole content of a branch; the commit."""
        self._pushes += 1
        commit = digest.short(url, branch, self._pushes, length=40)
        self._branches[(url, branch)] = commit
        self._commits[commit] = dict(files)
        return commit

    def fail_next(self, error: SourceError, *, times: int = 1) -> None:
        """The next calls of any kind raise `error`."""
        self._failures += [error] * times

    async def ls_remote(self, remote: Remote) -> str:
        self._count("ls_remote")
        if remote.ref.commit:
            return remote.ref.commit
        commit = self._branches.get((remote.url, remote.ref.branch or remote.ref.tag or "main"))
        if commit is None:
            raise SourceError(Reason.REF_NOT_FOUND, f"the remote has no ref {remote.ref_name}")
        return commit

    async def fetch(self, remote: Remote, commit: str) -> str:
        self._count("fetch")
        if commit not in self._commits:
            raise SourceError(Reason.REF_NOT_FOUND, f"{remote.url} has no commit {commit}")
        self._fetched.add(commit)
        return commit

    async def inspect(self, remote: Remote, commit: str, look: Callable[[Tree], T]) -> T:
        self._count("inspect")
        if commit not in self._fetched:
            raise SourceError(Reason.UNREACHABLE, f"commit {commit} was not fetched from {remote.url}", retry=True)
        return look(MemoryTree(self._commits[commit]))

    async def verify(self, remote: Remote, commit: str, allowed_signers: str) -> None:
        self._count("verify")
        if commit not in self.signed or not allowed_signers:
            raise SourceError(Reason.UNVERIFIED, f"commit {commit} of {remote.url} is not signed by an allowed signer")

    def _count(self, call: str) -> None:
        self.calls[call] += 1
        if self._failures:
            raise self._failures.pop(0)


def _entry(path: str, one: str | Link) -> Entry:
    if isinstance(one, Link):
        return Entry(path, Mode.LINK, len(one.target), digest.digest("link", one.target))
    return Entry(path, Mode.FILE, len(one.encode()), digest.digest("file", one))


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
