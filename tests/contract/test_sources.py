"""Sources: one suite for the resolver and its memory twin, and what only a real git server can show of fetching."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import GitSource, InlineSource, Language, Runtime, Source, SourceType
from knative_lambda.resources.build_request import BuildRequest
from knative_lambda.sources import context, identity
from knative_lambda.sources.base import ANONYMOUS, Credentials, FetchLimits, Resolution, SourceError, Sources
from knative_lambda.sources.dial import DialPolicy
from knative_lambda.sources.git import GitFetcher
from knative_lambda.sources.memory import MemorySources
from knative_lambda.sources.resolver import SourceResolver
from tests.testbed.gitserver import Failure, GitServer

pytestmark = pytest.mark.contract

LOOPBACK = DialPolicy(["127.0.0.0/8"])
LIMITS = FetchLimits()
NOBODY = Path("/nonexistent/credentials")
FILE, PROGRAM, LINK, SUBMODULE, TREE = "100644", "100755", "120000", "160000", "040000"
Entries = dict[str, tuple[str, bytes]]


@dataclass
class Repository:
    """A repository of the git server, written object by object, hostile ones too."""

    server: GitServer
    name: str
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = self.server.create_repository(self.name)

    def git(self, *arguments: str, given: bytes = b"") -> str:
        person = {f"GIT_{who}_{what}": "x@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        command = ["git", "-C", str(self.server.path(self.name)), *arguments]
        done = subprocess.run(command, input=given, capture_output=True, check=True, env={**os.environ, **person})
        return done.stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", given=content)

    def tree(self, rows: list[tuple[str, str, str]]) -> str:
        """(mode, id, name) as git itself would never let a user commit them."""
        kinds = {TREE: "tree", SUBMODULE: "commit"}
        lines = "".join(f"{mode} {kinds.get(mode, 'blob')} {identity}\t{name}\0" for mode, identity, name in rows)
        return self.git("mktree", "-z", "--missing", given=lines.encode())

    def commit_tree(self, tree: str, *, branch: str = "main") -> str:
        commit = self.git("commit-tree", tree, "-m", "made")
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def commit(self, files: Entries, *, branch: str = "main") -> str:
        """A commit that holds exactly these paths."""
        return self.commit_tree(self._nested(files), branch=branch)

    def _nested(self, files: Entries) -> str:
        rows = []
        below: dict[str, Entries] = {}
        for path, (mode, content) in files.items():
            first, slash, rest = path.partition("/")
            if slash:
                below.setdefault(first, {})[rest] = (mode, content)
            else:
                rows.append((mode, content.decode() if mode == SUBMODULE else self.blob(content), first))
        rows += [(TREE, self._nested(entries), name) for name, entries in below.items()]
        return self.tree(rows)


def text(content: str, mode: str = FILE) -> tuple[str, bytes]:
    return mode, content.encode()


@pytest.fixture
def repository(git_server: GitServer, request: pytest.FixtureRequest) -> Repository:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-")
    return Repository(git_server, f"{name[:60]}-{time.monotonic_ns()}")


def source(url: str, **git: str | None) -> Source:
    return Source(type=SourceType.GIT, git=GitSource.model_validate({"url": url} | {k: v for k, v in git.items() if v}))


# --- resolving -------------------------------------------------------------------------------------------------------


class Place(Protocol):
    """A `Sources` and the repository that it asks."""

    url: str

    def sources(self) -> Sources: ...
    def push(self, *, branch: str) -> str: ...
    def fail(self) -> None: ...
    async def close(self) -> None: ...


class MemoryPlace:
    def __init__(self) -> None:
        self.url = "https://git.example.com/repo.git"
        self._sources = MemorySources()
        self._count = 0

    def sources(self) -> Sources:
        return self._sources

    def push(self, *, branch: str) -> str:
        self._count += 1
        commit = f"{self._count:040x}"
        self._sources.push(self.url, commit, ref=branch)
        if branch == "main":
            self._sources.push(self.url, commit)
        return commit

    def fail(self) -> None:
        self._sources.fail(SourceError(Reason.UNREACHABLE, "away", retry=True))

    async def close(self) -> None:
        return None


class GitPlace:
    def __init__(self, repository: Repository) -> None:
        self.url = repository.url
        self._repository = repository
        self._resolver = SourceResolver(LOOPBACK, seconds=10)
        self._count = 0

    def sources(self) -> Sources:
        return self._resolver

    def push(self, *, branch: str) -> str:
        self._count += 1
        return self._repository.commit({"main.py": text(f"{self._count}")}, branch=branch)

    def fail(self) -> None:
        self._repository.server.failure = Failure.UNAVAILABLE

    async def close(self) -> None:
        await self._resolver.close()


@pytest.fixture(params=["memory", "git"])
async def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "memory":
        return MemoryPlace()
    return GitPlace(request.getfixturevalue("repository"))


async def test_a_branch_is_resolved_to_its_newest_commit(place: Place) -> None:
    first = place.push(branch="main")
    assert (await place.sources().resolve(source(place.url, ref="main"))).revision == first
    second = place.push(branch="main")
    found = await place.sources().resolve(source(place.url, ref="main"))
    assert found.revision == second
    await place.close()


async def test_no_ref_is_the_remotes_head(place: Place) -> None:
    commit = place.push(branch="main")
    place.push(branch="other")
    found = await place.sources().resolve(source(place.url, path="functions/a"))
    assert found == identity.of_git(GitSource(url=place.url, path="functions/a"), commit)
    await place.close()


async def test_an_absent_ref_is_an_error_and_never_the_default_branch(place: Place) -> None:
    place.push(branch="main")
    with pytest.raises(SourceError) as caught:
        await place.sources().resolve(source(place.url, ref="absent"))
    assert (caught.value.reason, caught.value.retry) == (Reason.REF_NOT_FOUND, False)
    await place.close()


async def test_an_unreachable_remote_may_come_back(place: Place) -> None:
    place.push(branch="main")
    place.fail()
    with pytest.raises(SourceError) as caught:
        await place.sources().resolve(source(place.url, ref="main"))
    assert (caught.value.reason, caught.value.retry) == (Reason.UNREACHABLE, True)
    await place.close()


async def test_what_is_pinned_or_inline_is_known_while_the_remote_is_away(place: Place) -> None:
    place.fail()
    assert (await place.sources().resolve(source(place.url, commit="a" * 40))).revision == "a" * 40
    inline = Source(type=SourceType.INLINE, inline=InlineSource(code="x"))
    assert await place.sources().resolve(inline) == identity.known(inline)
    await place.close()


# --- a real git server -----------------------------------------------------------------------------------------------


@pytest.fixture
async def resolver() -> SourceResolver:
    return SourceResolver(LOOPBACK, seconds=2)


async def test_an_annotated_tag_is_resolved_to_its_commit(repository: Repository, resolver: SourceResolver) -> None:
    commit = repository.commit({"main.py": text("x")})
    repository.git("tag", "-a", "v1", "-m", "tagged", commit)
    repository.commit({"main.py": text("y")})
    assert (await resolver.resolve(source(repository.url, ref="v1"))).revision == commit
    await resolver.close()


async def test_credentials_open_a_repository_and_expired_ones_do_not(
    repository: Repository, resolver: SourceResolver
) -> None:
    commit = repository.commit({"main.py": text("x")})
    repository.server.require(repository.name, user="me", password="first-secret")
    valid = Credentials({"username": "me", "password": "first-secret"})
    assert (await resolver.resolve(source(repository.url, ref="main"), valid)).revision == commit
    repository.server.require(repository.name, user="me", password="second-secret")
    for credentials in (valid, ANONYMOUS):
        with pytest.raises(SourceError) as caught:
            await resolver.resolve(source(repository.url, ref="main"), credentials)
        assert (caught.value.reason, caught.value.retry) == (Reason.AUTHENTICATION_FAILED, False)
        assert "secret" not in caught.value.message
    await resolver.close()


async def test_a_server_that_hangs_is_given_up(repository: Repository, resolver: SourceResolver) -> None:
    repository.server.failure = Failure.HANG
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        await resolver.resolve(source(repository.url, ref="main"))
    assert caught.value.retry
    assert time.monotonic() - began < 5
    await resolver.close()


async def test_a_repository_that_is_not_there_is_a_persons_matter(
    repository: Repository, resolver: SourceResolver
) -> None:
    with pytest.raises(SourceError) as caught:
        await resolver.resolve(source(repository.url.replace(".git", "-absent.git"), ref="main"))
    assert caught.value.reason in (Reason.SOURCE_NOT_FOUND, Reason.AUTHENTICATION_FAILED)
    assert not caught.value.retry
    await resolver.close()


async def test_an_address_that_the_policy_refuses_is_never_asked(repository: Repository) -> None:
    strict = SourceResolver(DialPolicy())
    with pytest.raises(SourceError) as caught:
        await strict.resolve(source(repository.url, ref="main"))
    assert caught.value.reason is Reason.SOURCE_REFUSED
    assert repository.server.count("info/refs git-upload-pack", repository.name) == 0
    await strict.close()


async def test_git_is_held_to_the_addresses_that_were_checked(repository: Repository, tmp_path: Path) -> None:
    """The name exists for the policy's look-up alone: git reaches the server only if it does not look up again."""
    commit = repository.commit({"main.py": text("x")})
    url = repository.url.replace("127.0.0.1", "git.invalid")
    policy = DialPolicy(["127.0.0.0/8"], lookup=lambda _: ["127.0.0.1"])
    resolver = SourceResolver(policy, seconds=5)
    assert (await resolver.resolve(source(url, ref="main"))).revision == commit
    GitFetcher(policy).fetch(source(url, commit=commit), ANONYMOUS, tmp_path, LIMITS)
    assert listed(tmp_path) == {"main.py": "644 x"}
    await resolver.close()


# --- fetching --------------------------------------------------------------------------------------------------------


def fetch(repository: Repository, into: Path, limits: FetchLimits = LIMITS, **git: str | None) -> Resolution:
    into.mkdir(exist_ok=True)
    return GitFetcher(LOOPBACK).fetch(source(repository.url, **git), ANONYMOUS, into, limits)


def refused(repository: Repository, into: Path, limits: FetchLimits = LIMITS, **git: str | None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        fetch(repository, into, limits, **git)
    return caught.value


def listed(root: Path) -> dict[str, str]:
    """Path -> mode and content, or target of a link."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = f"{path.stat().st_mode & 0o777:o} {path.read_text()}"
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "into"
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["into"]), "something was written elsewhere"


def test_a_directory_of_a_commit_is_brought_whole(repository: Repository, scratch: Path) -> None:
    commit = repository.commit(
        {
            "README": text("not wanted"),
            "functions/a/main.py": text("code"),
            "functions/a/bin/run": text("#!/bin/sh\n", PROGRAM),
            "functions/a/sub/deep/x": text("x"),
            "functions/a/sub/link": text("deep/x", LINK),
            "functions/b/main.py": text("other"),
        }
    )
    found = fetch(repository, scratch, commit=commit, path="functions/a")
    assert listed(scratch) == {
        "main.py": "644 code", "bin/run": "755 #!/bin/sh\n", "sub/deep/x": "644 x", "sub/link": "-> deep/x",
    }  # fmt: skip
    assert found == identity.of_git(GitSource(url=repository.url, path="functions/a"), commit)


def test_the_pinned_commit_is_fetched_although_the_branch_moved(repository: Repository, scratch: Path) -> None:
    old = repository.commit({"main.py": text("old")})
    repository.commit({"main.py": text("new")})
    fetch(repository, scratch, commit=old)
    assert listed(scratch) == {"main.py": "644 old"}


class _OldProtocol(http.server.BaseHTTPRequestHandler):
    """Hands requests on without the header that asks for git's newer protocol, as an old server would understand them.

    Such a server gives out no commit that no ref names.
    """

    protocol_version = "HTTP/1.1"
    target: str

    def do_GET(self) -> None:
        self._hand_on(None)

    def do_POST(self) -> None:
        self._hand_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _hand_on(self, body: bytes | None) -> None:
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("git-protocol", "host")}
        with urllib.request.urlopen(urllib.request.Request(self.target + self.path, data=body, headers=kept)) as answer:
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the tests count nothing here."""


@pytest.fixture
def old_server(git_server: GitServer) -> Iterator[str]:
    """Base URL of the git server as it was before git 2.18."""
    handler = type("Handler", (_OldProtocol,), {"target": git_server.base_url})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    serving.join()


@pytest.mark.parametrize("ref", ["main", None])
def test_a_server_that_gives_out_no_commit_by_its_id_is_asked_by_its_refs(
    repository: Repository, old_server: str, scratch: Path, ref: str | None
) -> None:
    old = repository.commit({"main.py": text("old")})
    new = repository.git("commit-tree", repository.tree([]), "-p", old, "-m", "on top")
    repository.git("update-ref", "refs/heads/main", new)
    repository.git("config", "uploadpack.allowAnySHA1InWant", "false")
    scratch.mkdir()
    url = repository.url.replace(repository.server.base_url, old_server)
    GitFetcher(LOOPBACK).fetch(source(url, commit=old, ref=ref), ANONYMOUS, scratch, LIMITS)
    assert listed(scratch) == {"main.py": "644 old"}


def test_a_commit_that_is_not_there_is_an_error(repository: Repository, scratch: Path) -> None:
    repository.commit({"main.py": text("x")})
    error = refused(repository, scratch, commit="0" * 39 + "1")
    assert (error.reason, error.retry) == (Reason.REF_NOT_FOUND, False)


@pytest.mark.parametrize("path", ["absent", "main.py", "a/absent"])
def test_a_directory_that_is_not_there_is_an_error(repository: Repository, scratch: Path, path: str) -> None:
    commit = repository.commit({"main.py": text("x"), "a/b": text("x")})
    error = refused(repository, scratch, commit=commit, path=path)
    assert (error.reason, error.retry) == (Reason.SOURCE_NOT_FOUND, False)


def test_a_submodule_is_left_out(repository: Repository, scratch: Path) -> None:
    commit = repository.commit({"main.py": text("x"), "module": text("1" * 40, SUBMODULE)})
    fetch(repository, scratch, commit=commit)
    assert listed(scratch) == {"main.py": "644 x"}


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "a/../../b", "../../.."])
def test_a_link_out_of_the_directory_is_refused(repository: Repository, scratch: Path, target: str) -> None:
    commit = repository.commit({"f/main.py": text("x"), "f/link": text(target, LINK), "secret": text("s")})
    error = refused(repository, scratch, commit=commit, path="f")
    assert error.reason is Reason.SOURCE_REFUSED
    assert "link" in error.message


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "."])
def test_a_tree_with_a_name_that_climbs_is_refused(repository: Repository, scratch: Path, name: str) -> None:
    evil = repository.tree([(FILE, repository.blob(b"evil"), "x")])
    commit = repository.commit_tree(repository.tree([(TREE, evil, name)]))
    assert refused(repository, scratch, commit=commit).reason is Reason.SOURCE_REFUSED


def test_a_link_and_a_directory_of_one_name_are_refused(repository: Repository, scratch: Path, tmp_path: Path) -> None:
    """A tree that no git makes: written naively, `d/x` would land where the link `d` leads."""
    outside = repository.blob(str(tmp_path).encode())
    inner = repository.tree([(FILE, repository.blob(b"evil"), "x")])
    commit = repository.commit_tree(repository.tree([(LINK, outside, "d"), (TREE, inner, "d")]))
    assert refused(repository, scratch, commit=commit).reason is Reason.SOURCE_REFUSED


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (FetchLimits(files=2), "more than 2 files"),
        (FetchLimits(file_bytes=999), "at most 999"),
        (FetchLimits(total_bytes=2500), "at most 2500"),
        (FetchLimits(depth=1), "deeper than 1"),
    ],
)
def test_every_limit_holds(repository: Repository, scratch: Path, limits: FetchLimits, words: str) -> None:
    commit = repository.commit({f"a/b/{number}": text(f"{number}" * 1000) for number in range(3)})
    error = refused(repository, scratch, limits, commit=commit)
    assert error.reason is Reason.SOURCE_REFUSED
    assert words in error.message


def test_a_small_pack_with_a_huge_file_is_refused_unread(repository: Repository, scratch: Path) -> None:
    commit = repository.commit({"zeros": (FILE, bytes(60 * 1024 * 1024))})
    assert "zeros" in refused(repository, scratch, commit=commit).message


def test_a_tree_that_unfolds_without_end_is_refused_in_time(repository: Repository, scratch: Path) -> None:
    """Ten trees of ten names each, every name the tree below: ten thousand million files out of a few hundred bytes."""
    rows = [(FILE, repository.blob(b"boom"), f"f{number}") for number in range(10)]
    for _ in range(9):
        below = repository.tree(rows)
        rows = [(TREE, below, f"d{number}") for number in range(10)]
    commit = repository.commit_tree(repository.tree(rows))
    began = time.monotonic()
    assert "more than 500 files" in refused(repository, scratch, FetchLimits(files=500), commit=commit).message
    assert time.monotonic() - began < 10


def test_a_server_that_hangs_ends_with_the_time_limit(repository: Repository, scratch: Path) -> None:
    commit = repository.commit({"main.py": text("x")})
    repository.server.failure = Failure.HANG
    began = time.monotonic()
    assert refused(repository, scratch, FetchLimits(seconds=1), commit=commit).retry
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("url", ["https://-oProxyCommand=x/", "ssh://-oProxyCommand=x/a", "http://a b/c"])
def test_a_url_that_git_would_misread_is_refused_before_git_sees_it(tmp_path: Path, url: str) -> None:
    evil = Source.model_construct(type=SourceType.GIT, git=GitSource.model_construct(
        url=url, ref=None, commit="a" * 40, path="", secret_ref=None), inline=None, image=None)  # fmt: skip
    with pytest.raises(SourceError) as caught:
        GitFetcher(LOOPBACK).fetch(evil, ANONYMOUS, tmp_path, FetchLimits())
    assert caught.value.reason is Reason.SOURCE_REFUSED


def test_the_context_of_a_git_function_is_complete(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit(
        {"fn/main.py": text("def handler(event): ...\n"), "fn/requirements.txt": text("httpx\n"), "other": text("x")}
    )
    request = BuildRequest(
        namespace="n", name="f", source=source(repository.url, commit=commit, path="fn"),
        runtime=Runtime(language=Language.PYTHON), revision=commit,
    )  # fmt: skip
    context.write_context(request, credentials_dir=NOBODY, into=tmp_path, policy=LOOPBACK, limits=LIMITS)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "Dockerfile", "dependencies/requirements.txt", "function/main.py", "function/requirements.txt",
        "runtime/knative_lambda_shim.py", "runtime/requirements.txt", "runtime/runtime.json",
    }  # fmt: skip


def test_a_missing_handler_file_is_told_with_its_name(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"app.py": text("x")})
    request = BuildRequest(
        namespace="n", name="f", source=source(repository.url, commit=commit), runtime=Runtime(language="python")
    )
    with pytest.raises(SourceError, match=r"main\.py") as caught:
        context.write_context(request, credentials_dir=NOBODY, into=tmp_path, policy=LOOPBACK, limits=LIMITS)
    assert context.exit_code(caught.value) == 65
