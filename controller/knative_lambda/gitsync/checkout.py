"""Bare mirrors of remote repositories, one per URL and credentials; never a working directory.

Only the newest commit is fetched (depth 1): the diff compares trees, it never walks history, so a force-push is a
push like any other. A mirror is a cache: one that is broken or has grown is made anew. git runs in a bounded pool of
threads. Called by loop; the only module of gitsync that imports GitPython, which reads the objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import git
from git.exc import GitError

from knative_lambda.api.conditions import Reason
from knative_lambda.gitsync.base import Remote
from knative_lambda.gitsync.tree import ENTRY_LIMIT, Entry, Mode, Tree
from knative_lambda.kit import digest
from knative_lambda.sources import gitcommand
from knative_lambda.sources.base import ANONYMOUS, SourceError
from knative_lambda.sources.gitcommand import Answer, Limits, Running

T = TypeVar("T")

SIZE_LIMIT = 512 * 2**20
PACK_LIMIT = 64
"""Fetches into one mirror before it is made anew."""
_LOCAL_SECONDS = 60.0
_LISTING_LIMIT = 64 * 2**20
_KEPT_REF = "refs/kn-lambda/kept"
_BROKEN = re.compile(
    r"bad object|corrupt|unable to read|index file|shallow|file exists|missing (blob|tree|commit)", re.I
)
"""git's words for a mirror that a killed process left behind."""
_MODES = {"100": Mode.FILE, "040": Mode.DIRECTORY, "120": Mode.LINK, "160": Mode.SUBMODULE}


class DialPolicy(Protocol):
    """Says which addresses may be called (sources.dial)."""

    def addresses(self, url: str) -> Sequence[str]:
        """Where the URL leads, for the client to be held to; raises SourceError(SOURCE_REFUSED)."""
        ...


class GitCheckout:
    """Speaks git over https, http and ssh."""

    def __init__(
        self,
        directory: Path,
        *,
        policy: DialPolicy,
        workers: int = 4,
        size_limit: int = SIZE_LIMIT,
        protocols: Sequence[str] = gitcommand.PROTOCOLS,
    ) -> None:
        """`directory` holds the mirrors and may be emptied at any time that nobody works in it."""
        self._directory = directory
        self._policy = policy
        self._size_limit = size_limit
        self._protocols = tuple(protocols)
        self._running = Running()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="git")

    async def ls_remote(self, remote: Remote) -> str:
        return await self._in_pool(lambda: self._ls_remote(remote))

    async def fetch(self, remote: Remote, commit: str) -> str:
        return await self._in_pool(lambda: self._fetch(remote, commit))

    async def inspect(self, remote: Remote, commit: str, look: Callable[[Tree], T]) -> T:
        return await self._in_pool(lambda: self._inspect(remote, commit, look))

    async def verify(self, remote: Remote, commit: str, allowed_signers: str) -> None:
        await self._in_pool(lambda: self._verify(remote, commit, allowed_signers))

    async def close(self) -> None:
        """Ends running commands; calls that wait for them raise SourceError."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._running.end_all()
        await asyncio.to_thread(self._pool.shutdown, wait=True)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except OSError as error:
            words = f"the folder of git mirrors cannot be used: {error.strerror or type(error).__name__}"
            raise SourceError(Reason.UNREACHABLE, words, retry=True) from error

    # Asking.

    def _ls_remote(self, remote: Remote) -> str:
        gitcommand.check_url(remote.url, self._protocols)
        if remote.ref.commit:
            return remote.ref.commit
        names = _ref_names(remote)
        answer = self._git(["ls-remote", "--quiet", "--", remote.url, *names], remote)
        if answer.code != 0:
            raise gitcommand.failure(answer, what=f"cannot ask for {remote.ref_name}")
        rows = [line.partition("\t") for line in answer.out.splitlines()]
        found = {name: commit for commit, _, name in rows}
        commit = next((found[name] for name in names if name in found), "")
        if not commit:
            words = f"the remote has no {_described(remote)}; it is never replaced by the default branch"
            raise SourceError(Reason.REF_NOT_FOUND, words)
        return commit

    # Fetching.

    def _fetch(self, remote: Remote, commit: str) -> str:
        gitcommand.check_url(remote.url, self._protocols)
        with self._locked(remote) as mirror:
            if _has(mirror, commit):
                return commit
            self._make_room(mirror)
            try:
                return self._fetch_into(mirror, remote, commit)
            except SourceError as error:
                if error.reason is Reason.SOURCE_REFUSED or _BROKEN.search(error.message):
                    shutil.rmtree(mirror, ignore_errors=True)
                raise

    def _make_room(self, mirror: Path) -> None:
        """A mirror that is not whole, has many packs or is half full is made anew."""
        packs = list((mirror / "objects" / "pack").glob("*.pack"))
        if mirror.exists() and (
            not (mirror / "HEAD").exists() or len(packs) >= PACK_LIMIT or _size(mirror) * 2 > self._size_limit
        ):
            shutil.rmtree(mirror)
        if not mirror.exists():
            self._initialize(mirror)

    def _initialize(self, mirror: Path) -> None:
        """Appears whole or not at all: made beside its place, then renamed."""
        made = Path(tempfile.mkdtemp(prefix="new-", dir=mirror.parent))
        try:
            answer = self._local(["init", "--quiet", "--bare", "--template=", "--initial-branch=none"], made)
            if answer.code != 0:
                raise gitcommand.failure(answer, what="cannot make a mirror")
            made.rename(mirror)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _fetch_into(self, mirror: Path, remote: Remote, commit: str) -> str:
        answer = self._fetch_specs(mirror, remote, [commit])
        if answer.code != 0 and _is_commit_withheld(answer):
            answer = self._fetch_specs(mirror, remote, _fallback_specs(remote), shallow=not remote.ref.commit)
        if answer.code != 0:
            raise gitcommand.failure(answer, what=f"cannot fetch {remote.ref_name}")
        came = self._resolved(mirror, commit) or ("" if remote.ref.commit else self._resolved(mirror, "FETCH_HEAD"))
        if not came:
            raise SourceError(Reason.REF_NOT_FOUND, f"the remote has no commit {commit}")
        self._keep(mirror, came)
        return came

    def _fetch_specs(self, mirror: Path, remote: Remote, specs: Sequence[str], *, shallow: bool = True) -> Answer:
        depth = ["--depth=1"] if shallow else ["--unshallow"] if (mirror / "shallow").exists() else []
        arguments = ["fetch", "--quiet", "--no-tags", "--force", "--no-recurse-submodules", *depth]
        limits = Limits(remote.seconds, size=lambda: _size(mirror), size_limit=self._size_limit)
        return self._git([*arguments, "--", remote.url, *specs], remote, mirror=mirror, limits=limits)

    def _resolved(self, mirror: Path, name: str) -> str:
        """The commit behind a name, if it is here; empty otherwise."""
        answer = self._local(["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], mirror)
        return answer.out.strip() if answer.code == 0 else ""

    def _keep(self, mirror: Path, commit: str) -> None:
        """What no ref names, the next fetch cannot build on."""
        answer = self._local(["update-ref", _KEPT_REF, commit], mirror)
        if answer.code != 0:
            raise gitcommand.failure(answer, what=f"cannot keep commit {commit}")

    # Looking.

    def _inspect(self, remote: Remote, commit: str, look: Callable[[Tree], T]) -> T:
        with self._locked(remote) as mirror, _opened(mirror) as reader:
            try:
                return look(CommitTree(reader, commit))
            except BrokenMirror:
                shutil.rmtree(mirror, ignore_errors=True)
                raise

    def _verify(self, remote: Remote, commit: str, allowed_signers: str) -> None:
        if shutil.which("ssh-keygen") is None:
            raise SourceError(Reason.UNVERIFIED, "the program ssh-keygen is not installed where the controller runs")
        with self._locked(remote) as mirror, tempfile.NamedTemporaryFile("w", prefix="signers-") as signers:
            signers.write(allowed_signers)
            signers.flush()
            settings = ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={signers.name}"]
            answer = self._local([*settings, "verify-commit", "--", commit], mirror)
        if answer.code != 0:
            words = "is not signed by one of the allowed signers" if answer.err.strip() else "is not signed"
            raise SourceError(Reason.UNVERIFIED, f"commit {commit} {words}")

    # Running git.

    def _git(
        self, arguments: Sequence[str], remote: Remote, *, mirror: Path | None = None, limits: Limits | None = None
    ) -> Answer:
        """A command that talks to the remote, at the addresses that were checked a moment ago."""
        addresses = self._policy.addresses(remote.url)
        place = [f"--git-dir={mirror}"] if mirror else []
        with gitcommand.environment(
            remote.url, remote.credentials, protocols=self._protocols, addresses=addresses
        ) as environment:
            return gitcommand.run(self._running, [*place, *arguments], environment, limits or Limits(remote.seconds))

    def _local(self, arguments: Sequence[str], mirror: Path) -> Answer:
        """A command that talks to nobody."""
        with gitcommand.environment("", ANONYMOUS) as environment:
            return gitcommand.run(
                self._running, [f"--git-dir={mirror}", *arguments], environment, Limits(_LOCAL_SECONDS)
            )

    @contextlib.contextmanager
    def _locked(self, remote: Remote) -> Iterator[Path]:
        """The mirror, for one thread of one process at a time. Other credentials never see what these fetched."""
        name = digest.short(remote.url, sorted(remote.credentials.values.items()), length=40)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._directory / f"{name}.git"
        finally:
            os.close(lock)


class BrokenMirror(SourceError):
    """A commit that should be in the mirror cannot be read; fetching again into a new one helps."""

    def __init__(self, commit: str, cause: Exception) -> None:
        words = f"commit {commit} cannot be read from the mirror, it will be fetched again ({type(cause).__name__})"
        super().__init__(Reason.UNREACHABLE, words, retry=True)


class CommitTree:
    """The files of a commit, listed once by git and read through one `cat-file` process. For one thread."""

    def __init__(self, reader: git.Git, commit: str) -> None:
        self._reader = reader
        self._commit = commit
        try:
            self._root: str = reader.rev_parse("--verify", f"{commit}^{{tree}}")
            listing = _listing(reader, commit)
        except (GitError, OSError) as error:
            raise BrokenMirror(commit, error) from error
        self._entries = {entry.path: entry for entry in _listed(listing)}

    def entries(self, prefix: str = "") -> Iterable[Entry]:
        below = f"{prefix}/" if prefix else ""
        return (entry for path, entry in self._entries.items() if path.startswith(below))

    def read(self, path: str, limit: int) -> bytes:
        entry = self._entries.get(path)
        if entry is None or entry.mode not in (Mode.FILE, Mode.LINK):
            raise FileNotFoundError(f"{path} is not a file of this commit")
        try:
            if entry.size > limit:
                return _first_bytes(self._reader.cat_file("blob", entry.id, as_process=True), limit)
            return self._reader.get_object_data(entry.id)[3] if entry.size else b""
        except (GitError, OSError, ValueError) as error:
            raise BrokenMirror(self._commit, error) from error

    def subtree_id(self, path: str) -> str:
        if not path:
            return self._root
        entry = self._entries.get(path)
        return entry.id if entry else ""


def _listing(reader: git.Git, commit: str) -> bytes:
    """The whole listing, or SourceError: a tree of a few kilobytes can unfold to billions of paths."""
    listing = _first_bytes(
        reader.ls_tree("-r", "-t", "-z", "--long", "--full-tree", commit, as_process=True), _LISTING_LIMIT
    )
    if len(listing) == _LISTING_LIMIT or listing.count(b"\0") > ENTRY_LIMIT:
        raise SourceError(Reason.SOURCE_REFUSED, f"the commit lists more than {ENTRY_LIMIT} entries")
    return listing


def _first_bytes(process: git.Git.AutoInterrupt, limit: int) -> bytes:
    """The beginning of what a process has to say; GitError when it could not say that much and failed."""
    proc = process.proc
    assert proc is not None
    assert proc.stdout is not None
    try:
        said: bytes = proc.stdout.read(limit)
        if len(said) < limit:
            process.wait()
    finally:
        proc.kill()
        proc.communicate()
    return said


def _listed(listing: bytes) -> Iterator[Entry]:
    """`<mode> <type> <id> <size>TAB<path>NUL`, as ls-tree writes it; a mode that git does not know holds nothing."""
    for line in listing.split(b"\0"):
        if line:
            about, _, path = line.partition(b"\t")
            mode, _, identity, size = about.decode("ascii").split()
            yield Entry(
                path.decode("utf-8", "replace"),
                _MODES.get(mode[:3], Mode.SUBMODULE),
                int(size) if size != "-" else 0,
                identity,
            )


@contextlib.contextmanager
def _opened(mirror: Path) -> Iterator[git.Git]:
    """GitPython on a mirror, with its helper processes ended afterwards."""
    reader = git.Git(mirror)
    with gitcommand.environment("", ANONYMOUS) as environment:
        reader.update_environment(**environment, **_places(mirror))
        try:
            yield reader
        finally:
            reader.clear_cache()


def _places(mirror: Path) -> dict[str, str]:
    """GitPython adds to the process's environment: what could lead git to other objects is named here."""
    return {
        "GIT_DIR": str(mirror),
        "GIT_OBJECT_DIRECTORY": str(mirror / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
    }


def _ref_names(remote: Remote) -> list[str]:
    """Full names, the most telling first; an annotated tag is followed to its commit."""
    if remote.ref.branch:
        return [f"refs/heads/{remote.ref.branch}"]
    if remote.ref.tag:
        return [f"refs/tags/{remote.ref.tag}^{{}}", f"refs/tags/{remote.ref.tag}"]
    return ["HEAD"]


def _described(remote: Remote) -> str:
    if remote.ref.branch:
        return f"branch {remote.ref.branch!r}"
    return f"tag {remote.ref.tag!r}" if remote.ref.tag else "HEAD with a commit (is it empty?)"


def _fallback_specs(remote: Remote) -> list[str]:
    """What to ask a server for that gives out no commit by its id."""
    if remote.ref.commit:
        return ["+refs/heads/*:refs/kn-lambda/heads/*"]
    return [f"refs/tags/{remote.ref.tag}"] if remote.ref.tag else _ref_names(remote)


def _is_commit_withheld(answer: Answer) -> bool:
    return any(
        sign in answer.err.lower() for sign in ("not our ref", "unadvertised object", "couldn't find remote ref")
    )


def _has(mirror: Path, commit: str) -> bool:
    """Whether the commit is here with its whole tree, as a finished fetch leaves it."""
    return mirror.exists() and _kept(mirror) == commit


def _kept(mirror: Path) -> str:
    ref = mirror / _KEPT_REF
    return ref.read_text().strip() if ref.exists() else ""


def _size(mirror: Path) -> int:
    """Bytes of a mirror; packs that git is still writing count."""
    total = 0
    for directory, _, files in os.walk(mirror / "objects"):
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # git renames its temporary files
                total += (Path(directory) / file).stat().st_size
    return total
