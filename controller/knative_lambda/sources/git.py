"""Code in a git repository: which commit a ref names now, and a directory of one commit on disk.

git's own program talks to the remote (gitcommand hardens it), GitPython reads the objects. There is never a working
copy: trees are walked one by one under limits, so that a tree which unfolds to billions of files is refused on the
way, and only plain files, programs and links that stay inside are written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import git
import structlog
from git.exc import GitError

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import GitSource, Source
from knative_lambda.sources import gitcommand, identity, tree
from knative_lambda.sources.base import ANONYMOUS, Credentials, FetchLimits, Resolution, SourceError
from knative_lambda.sources.dial import DialPolicy
from knative_lambda.sources.gitcommand import Answer, Limits, Running

PACK_FACTOR = 4
"""A repository's pack may take this many times the bytes that a function's directory may."""
_LINK_BYTES = 4096
_TREE_BYTES = 4 * 1024 * 1024
_LOCAL_SECONDS = 60.0
_MODES = {0o100644: tree.FILE_MODE, 0o100664: tree.FILE_MODE, 0o100755: tree.PROGRAM_MODE}
_TREE, _LINK, _SUBMODULE = 0o40000, 0o120000, 0o160000
_log = structlog.get_logger(__name__)


class GitRemote:
    """Asks remotes. Safe for threads; `close` ends what runs."""

    def __init__(self, policy: DialPolicy, *, seconds: float) -> None:
        self._policy = policy
        self._seconds = seconds
        self._running = Running()

    def commit_of(self, source: GitSource, credentials: Credentials) -> str:
        """The commit that the source's ref, or the remote's HEAD, names now. Blocking; raises SourceError only.

        A branch wins over a tag of the same name; an absent ref is an error, never the default branch.
        """
        gitcommand.check_url(source.url)
        addresses = self._policy.addresses(source.url)
        names = _ref_names(source.ref)
        with gitcommand.environment(source.url, credentials, addresses=addresses) as environment:
            arguments = ["ls-remote", "--quiet", "--", source.url, *names]
            answer = gitcommand.run(self._running, arguments, environment, Limits(self._seconds))
        if answer.code != 0:
            raise gitcommand.failure(answer, what=f"cannot ask for {source.ref or 'HEAD'}")
        rows = [line.partition("\t") for line in answer.out.splitlines()]
        found = {name: commit for commit, _, name in rows}
        commit = next((found[name] for name in names if name in found), "")
        if not commit:
            words = f"the remote has no {source.ref or 'HEAD (is it empty?)'}; no other branch is taken instead"
            raise SourceError(Reason.REF_NOT_FOUND, words)
        return commit

    def close(self) -> None:
        self._running.end_all()


class GitFetcher:
    """Brings a directory of a commit to disk; in the build's init container, or in local mode's builder."""

    def __init__(self, policy: DialPolicy) -> None:
        self._policy = policy
        self._running = Running()

    def close(self) -> None:
        """Ends fetches that run."""
        self._running.end_all()

    def fetch(self, source: Source, credentials: Credentials, into: Path, limits: FetchLimits) -> Resolution:
        """See base.Fetcher. The repository itself lies in a temporary directory while it lasts."""
        wanted = source.git
        assert wanted is not None
        deadline = time.monotonic() + limits.seconds
        remote = GitRemote(self._policy, seconds=limits.seconds)
        commit = identity.pinned_commit(wanted) or remote.commit_of(wanted, credentials)
        with tempfile.TemporaryDirectory(prefix="kn-lambda-source-") as scratch:
            repository = _Repository(Path(scratch), self._running, deadline=deadline)
            repository.fetch(wanted, commit, credentials, addresses=self._checked(wanted), limits=limits)
            with _opened(repository.directory) as reader:
                _Extraction(reader, into, limits, deadline).directory_of(commit, wanted.path)
        return identity.of_git(wanted, commit)

    def _checked(self, source: GitSource) -> Sequence[str]:
        gitcommand.check_url(source.url)
        return self._policy.addresses(source.url)


class _Repository:
    """A bare repository of one commit, without its history where the server lets us."""

    def __init__(self, scratch: Path, running: Running, *, deadline: float) -> None:
        self.directory = scratch / "repository.git"
        self._running = running
        self._deadline = deadline

    def fetch(
        self,
        source: GitSource,
        commit: str,
        credentials: Credentials,
        *,
        addresses: Sequence[str],
        limits: FetchLimits,
    ) -> None:
        """By its id; then, from a server that gives out no commit by its id, by whatever refs may lead to it."""
        self._initialize()
        size_limit = limits.total_bytes * PACK_FACTOR
        answer = Answer(1, "", "")
        with gitcommand.environment(source.url, credentials, addresses=addresses) as environment:
            for specs in ([commit], *_fallbacks(source)):
                bounds = Limits(self._left(), size=self._size, size_limit=size_limit)
                answer = self._fetch(environment, source.url, specs, bounds)
                if self._has(commit):
                    return
                if answer.code != 0 and not _is_commit_withheld(answer):
                    raise gitcommand.failure(answer, what=f"cannot fetch commit {commit}")
        raise SourceError(Reason.REF_NOT_FOUND, f"the remote has no commit {commit}")

    def _initialize(self) -> None:
        with gitcommand.environment("", ANONYMOUS) as environment:
            arguments = ["init", "--quiet", "--bare", "--template=", "--initial-branch=none", str(self.directory)]
            answer = gitcommand.run(self._running, arguments, environment, Limits(_LOCAL_SECONDS))
        if answer.code != 0:
            raise gitcommand.failure(answer, what="cannot make a repository")

    def _fetch(self, environment: dict[str, str], url: str, specs: Sequence[str], limits: Limits) -> Answer:
        shallow = ["--depth=1"] if len(specs) == 1 else ["--unshallow"] if (self.directory / "shallow").exists() else []
        options = ["--quiet", "--no-tags", "--force", "--no-recurse-submodules", "--no-write-fetch-head"]
        arguments = [f"--git-dir={self.directory}", "fetch", *options, *shallow, "--", url, *specs]
        return gitcommand.run(self._running, arguments, environment, limits)

    def _has(self, commit: str) -> bool:
        with gitcommand.environment("", ANONYMOUS) as environment:
            arguments = [f"--git-dir={self.directory}", "cat-file", "-e", f"{commit}^{{commit}}"]
            return gitcommand.run(self._running, arguments, environment, Limits(_LOCAL_SECONDS)).code == 0

    def _left(self) -> float:
        return max(1.0, self._deadline - time.monotonic())

    def _size(self) -> int:
        total = 0
        for directory, _, files in os.walk(self.directory / "objects"):
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # git renames its temporary files
                    total += (Path(directory) / file).stat().st_size
        return total


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of a tree object."""

    mode: int
    name: str
    id: str


class _Extraction:
    """One walk over the trees below a directory; every limit is asked before anything is read or written."""

    def __init__(self, reader: git.Git, into: Path, limits: FetchLimits, deadline: float) -> None:
        self._reader = reader
        self._into = into
        self._limits = limits
        self._deadline = deadline
        self._files = 0
        self._bytes = 0
        self._links: list[tuple[str, str]] = []

    def directory_of(self, commit: str, path: str) -> None:
        """Everything below `path`; links come last, so that nothing is written through one."""
        try:
            self._directory(self._tree_at(self._root(commit), path), "", depth=0)
        except _TooLarge as error:
            raise self._refused(f"a directory or link of {error.size} bytes") from error
        except (GitError, ValueError, OSError) as error:
            words = f"commit {commit} cannot be read or written: {type(error).__name__}"
            raise SourceError(Reason.UNREACHABLE, words, retry=True) from error
        for place, target in self._links:
            tree.write_link(self._into, place, target)

    def _root(self, commit: str) -> str:
        kind, content = self._object(commit, _TREE_BYTES)
        first = content.split(b"\n", 1)[0].split()
        if kind != "commit" or len(first) != 2 or first[0] != b"tree":
            raise SourceError(Reason.REF_NOT_FOUND, f"{commit} is not a commit")
        return first[1].decode("ascii")

    def _tree_at(self, root: str, path: str) -> str:
        for part in path.split("/") if path else []:
            entry = next((entry for entry in self._entries(root) if entry.name == part), None)
            if entry is None or entry.mode != _TREE:
                words = "is not there" if entry is None else "is not a directory"
                raise SourceError(Reason.SOURCE_NOT_FOUND, f"the directory {path!r} of the commit {words}")
            root = entry.id
        return root

    def _directory(self, identity: str, place: str, *, depth: int) -> None:
        if depth > self._limits.depth:
            raise self._refused(f"directories nested deeper than {self._limits.depth}")
        for entry in self._entries(identity):
            path = f"{place}/{entry.name}" if place else entry.name
            self._count()
            self._entry(entry, path, depth)

    def _entry(self, entry: _Entry, path: str, depth: int) -> None:
        if entry.mode == _TREE:
            tree.check_path(path)
            self._directory(entry.id, path, depth=depth + 1)
        elif entry.mode == _LINK:
            self._links.append((path, os.fsdecode(self._object(entry.id, _LINK_BYTES)[1])))
        elif entry.mode == _SUBMODULE:
            _log.warning("a submodule is not fetched", path=path)
        elif entry.mode in _MODES:
            tree.write_file(self._into, path, self._blob(entry, path), mode=_MODES[entry.mode])
        else:
            raise self._refused(f"an entry of mode {entry.mode:o}: {path!r}")

    def _blob(self, entry: _Entry, path: str) -> bytes:
        limit = min(self._limits.file_bytes, self._limits.total_bytes - self._bytes)
        try:
            _, content = self._object(entry.id, limit)
        except _TooLarge as error:
            what = f"the file {path!r} of {error.size} bytes" if error.size > self._limits.file_bytes else "files"
            most = self._limits.file_bytes if error.size > self._limits.file_bytes else self._limits.total_bytes
            raise self._refused(f"{what}; at most {most} bytes are taken") from error
        self._bytes += len(content)
        return content

    def _count(self) -> None:
        self._files += 1
        if self._files > self._limits.files:
            raise self._refused(f"more than {self._limits.files} files")
        if time.monotonic() > self._deadline:
            words = f"the source could not be fetched within {self._limits.seconds} s"
            raise SourceError(Reason.UNREACHABLE, words, retry=True)

    def _entries(self, identity: str) -> list[_Entry]:
        kind, content = self._object(identity, _TREE_BYTES)
        if kind != "tree":
            raise self._refused("an entry that says it is a directory and is none")
        return list(_parsed(content, id_bytes=len(identity) // 2))

    def _object(self, identity: str, limit: int) -> tuple[str, bytes]:
        """Type and content; the size is asked first, for a small pack can hold a huge object."""
        header: Any = self._reader.get_object_header(identity)  # GitPython calls the type a str and gives bytes
        kind, size = bytes(header[1]).decode("ascii"), int(header[2])
        if size > limit:
            raise _TooLarge(size)
        return kind, self._reader.stream_object_data(identity)[3].read() if size else b""

    def _refused(self, words: str) -> SourceError:
        return SourceError(Reason.SOURCE_REFUSED, f"the source holds {words}")


class _TooLarge(ValueError):
    def __init__(self, size: int) -> None:
        super().__init__(f"an object of {size} bytes")
        self.size = size


def _parsed(content: bytes, *, id_bytes: int) -> Iterator[_Entry]:
    """`<mode in octal> <name>NUL<id>`, as git writes trees; ValueError when it is not that."""
    at = 0
    while at < len(content):
        space = content.index(b" ", at)
        end = content.index(b"\0", space)
        identity = content[end + 1 : end + 1 + id_bytes]
        if len(identity) != id_bytes:
            raise ValueError("a tree object that is cut off")
        yield _Entry(int(content[at:space], 8), os.fsdecode(content[space + 1 : end]), identity.hex())
        at = end + 1 + id_bytes


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[git.Git]:
    """GitPython on a bare repository, its helper processes ended afterwards."""
    reader = git.Git(directory)
    with gitcommand.environment("", ANONYMOUS) as environment:
        # GitPython adds to the process's environment; what could lead it elsewhere leads here.
        reader.update_environment(
            **environment,
            GIT_DIR=str(directory),
            GIT_WORK_TREE=str(directory),
            GIT_OBJECT_DIRECTORY=str(directory / "objects"),
            GIT_ALTERNATE_OBJECT_DIRECTORIES="",
            GIT_NAMESPACE="",
            GIT_INDEX_FILE=os.devnull,
        )
        try:
            yield reader
        finally:
            reader.clear_cache()


def _ref_names(ref: str | None) -> list[str]:
    """Full names, the most telling first; an annotated tag is followed to its commit."""
    if ref is None:
        return ["HEAD"]
    if ref.startswith("refs/"):
        return [f"{ref}^{{}}", ref]
    return [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]


def _fallbacks(source: GitSource) -> Iterator[list[str]]:
    """What to ask a server for that gives out no commit by its id: its ref, then the history of all branches."""
    if source.ref is not None and not identity.pinned_commit(source.model_copy(update={"commit": None})):
        yield [source.ref]
    yield ["+refs/heads/*:refs/kn-lambda/heads/*", "+refs/tags/*:refs/kn-lambda/tags/*"]


def _is_commit_withheld(answer: Answer) -> bool:
    signs = ("not our ref", "unadvertised object", "couldn't find remote ref", "does not allow request")
    return any(sign in answer.err.lower() for sign in signs)
