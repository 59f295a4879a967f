"""Mirrors of real repositories."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from knative_lambda.api.conditions import Reason
from knative_lambda.api.repository import Ref
from knative_lambda.gitsync.base import Remote
from knative_lambda.gitsync.checkout import GitCheckout
from knative_lambda.gitsync.tree import Mode, Tree
from knative_lambda.sources import gitcommand
from knative_lambda.sources.base import Credentials, SourceError
from tests.unit.gitsync.repositories import AnyAddress, Repository

MAIN = Ref(branch="main")


def paths(tree: Tree) -> list[str]:
    return [entry.path for entry in tree.entries() if entry.mode is Mode.FILE]


async def test_a_branch_is_resolved_fetched_and_read(repository: Repository, checkout: GitCheckout) -> None:
    commit = repository.commit({"a/one.txt": "1", "two.txt": "22"})
    remote = Remote(repository.url, MAIN)
    assert await checkout.ls_remote(remote) == commit
    assert await checkout.fetch(remote, commit) == commit
    assert await checkout.inspect(remote, commit, paths) == ["a/one.txt", "two.txt"]
    assert await checkout.inspect(remote, commit, lambda tree: tree.read("two.txt", 1)) == b"2"
    assert await checkout.inspect(
        remote, commit, lambda tree: [tree.read("two.txt", 9), tree.read("a/one.txt", 9)]
    ) == [
        b"22",
        b"1",
    ]


async def test_head_tags_and_commits_are_refs_too(repository: Repository, checkout: GitCheckout) -> None:
    first = repository.commit({"f": "1"})
    repository.git("tag", "-a", "v1", "-m", "annotated")
    second = repository.commit({"f": "2"})
    assert await checkout.ls_remote(Remote(repository.url)) == second
    assert await checkout.ls_remote(Remote(repository.url, Ref(tag="v1"))) == first
    pinned = Remote(repository.url, Ref(commit=first))
    assert await checkout.fetch(pinned, await checkout.ls_remote(pinned)) == first


async def test_an_absent_ref_is_an_error_and_never_the_default_branch(
    repository: Repository, checkout: GitCheckout
) -> None:
    repository.commit({"f": "1"})
    for ref in (Ref(branch="gone"), Ref(tag="gone")):
        with pytest.raises(SourceError, match="gone") as caught:
            await checkout.ls_remote(Remote(repository.url, ref))
        assert caught.value.reason is Reason.REF_NOT_FOUND
        assert not caught.value.retry
    absent = Remote(repository.url, Ref(commit="0" * 39 + "1"))
    with pytest.raises(SourceError) as caught:
        await checkout.fetch(absent, "0" * 39 + "1")
    assert caught.value.reason is Reason.REF_NOT_FOUND


async def test_a_branch_whose_name_ends_like_another_is_not_taken_for_it(
    repository: Repository, checkout: GitCheckout
) -> None:
    commit = repository.commit({"f": "1"})
    repository.git("update-ref", "refs/heads/x/refs/heads/release", commit)
    with pytest.raises(SourceError, match="release"):
        await checkout.ls_remote(Remote(repository.url, Ref(branch="release")))


async def test_a_force_push_is_a_push(repository: Repository, checkout: GitCheckout) -> None:
    remote = Remote(repository.url, MAIN)
    before = repository.commit({"f": "1"})
    await checkout.fetch(remote, before)
    repository.git("checkout", "--quiet", "--orphan", "other")
    after = repository.commit({"g": "2"})
    repository.git("branch", "--force", "main", after)
    assert await checkout.ls_remote(remote) == after
    assert await checkout.fetch(remote, after) == after
    assert "g" in await checkout.inspect(remote, after, paths)


async def test_a_server_that_gives_out_no_bare_commits_gives_the_ref(
    repository: Repository, checkout: GitCheckout
) -> None:
    repository.git("config", "protocol.version", "0")
    old = repository.commit({"f": "1"})
    new = repository.commit({"f": "2"})
    remote = Remote(repository.url, MAIN)
    came = await checkout.fetch(remote, old)
    assert came in (old, new)
    assert await checkout.inspect(remote, came, paths) == ["f"]


async def test_a_commit_that_is_here_is_not_fetched_again(repository: Repository, checkout: GitCheckout) -> None:
    remote = Remote(repository.url, MAIN)
    commit = repository.commit({"f": "1"})
    await checkout.fetch(remote, commit)
    repository.place.rename(repository.place.with_name("away"))
    assert await checkout.fetch(remote, commit) == commit


async def test_equal_directories_have_equal_ids_in_all_revisions(repository: Repository, checkout: GitCheckout) -> None:
    remote = Remote(repository.url, MAIN)
    ids = []
    for text in ("1", "2"):
        commit = repository.commit({"same/f": "x", "changed/f": text})
        await checkout.fetch(remote, commit)
        ids.append(
            await checkout.inspect(remote, commit, lambda tree: [tree.subtree_id("same"), tree.subtree_id("changed")])
        )
    assert ids[0][0] == ids[1][0]
    assert ids[0][1] != ids[1][1]


async def test_links_are_read_as_their_target_and_never_followed(repository: Repository, checkout: GitCheckout) -> None:
    (repository.place / "link").symlink_to("/etc/passwd")
    commit = repository.commit({"f": "1"})
    remote = Remote(repository.url, MAIN)
    await checkout.fetch(remote, commit)
    assert await checkout.inspect(remote, commit, lambda tree: tree.read("link", 100)) == b"/etc/passwd"


async def test_a_broken_mirror_heals_by_fetching_again(
    repository: Repository, checkout: GitCheckout, tmp_path: Path
) -> None:
    remote = Remote(repository.url, MAIN)
    commit = repository.commit({"f": "1"})
    await checkout.fetch(remote, commit)
    for pack in (tmp_path / "mirrors").glob("*.git/objects/pack/*"):
        pack.unlink()
    with pytest.raises(SourceError) as caught:
        await checkout.inspect(remote, commit, paths)
    assert caught.value.retry
    await checkout.fetch(remote, commit)
    assert await checkout.inspect(remote, commit, paths) == ["f"]


async def test_what_a_killed_fetch_left_behind_is_cleared_away(
    repository: Repository, checkout: GitCheckout, tmp_path: Path
) -> None:
    remote = Remote(repository.url, MAIN)
    first = repository.commit({"f": "1"})
    await checkout.fetch(remote, first)
    (mirror,) = (tmp_path / "mirrors").glob("*.git")
    (mirror / "shallow.lock").touch()
    second = repository.commit({"f": "2"})
    with pytest.raises(SourceError) as caught:
        await checkout.fetch(remote, second)
    assert caught.value.retry
    assert await checkout.fetch(remote, second) == second


async def test_a_tree_with_dots_for_names_is_refused(repository: Repository, checkout: GitCheckout) -> None:
    blob = repository.git("hash-object", "-w", "--stdin-paths", feed=str(repository.place / ".git" / "HEAD"))
    raw = b"100644 ..\0" + bytes.fromhex(blob)
    tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", feed=raw)
    commit = repository.git("commit-tree", tree, "-m", "dots")
    repository.git("update-ref", "refs/heads/main", commit)
    with pytest.raises(SourceError) as caught:
        await checkout.fetch(Remote(repository.url, MAIN), commit)
    assert caught.value.reason is Reason.SOURCE_REFUSED


async def test_a_repository_larger_than_allowed_is_refused(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"big": os.urandom(3 * 2**20).hex()})
    small = GitCheckout(tmp_path / "m", policy=AnyAddress(), protocols=("file",), size_limit=2**20)
    remote = Remote(repository.url, MAIN)
    try:
        with pytest.raises(SourceError, match="larger than") as caught:
            await small.fetch(remote, commit)
    finally:
        await small.close()
    assert caught.value.reason is Reason.SOURCE_REFUSED
    assert not list((tmp_path / "m").glob("*.git"))


async def test_a_repository_that_is_not_there_is_said_so(tmp_path: Path, checkout: GitCheckout) -> None:
    with pytest.raises(SourceError) as caught:
        await checkout.ls_remote(Remote(f"file://{tmp_path}/nothing", MAIN))
    assert caught.value.reason is Reason.SOURCE_NOT_FOUND


async def test_an_unreachable_server_may_come_back(checkout: GitCheckout) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(SourceError) as caught:
            await checkout.ls_remote(Remote(f"http://127.0.0.1:{port}/x.git", MAIN))
    assert caught.value.reason is Reason.UNREACHABLE
    assert caught.value.retry


class Server:
    """An HTTP server that always gives one answer, and remembers the requests."""

    def __init__(self, answer: bytes) -> None:
        self.requests: list[str] = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/x.git"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536).decode())
                connection.sendall(self._answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


async def ask(checkout: GitCheckout, answer: bytes, credentials: Credentials) -> tuple[SourceError, list[str]]:
    server = Server(answer)
    try:
        with pytest.raises(SourceError) as caught:
            await checkout.ls_remote(Remote(server.url, MAIN, credentials, seconds=10))
    finally:
        server.close()
    return caught.value, server.requests


UNAUTHORIZED = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def test_expired_credentials_are_named_and_not_shown(checkout: GitCheckout) -> None:
    secret = "s3cr3t-value"
    error, requests = await ask(checkout, UNAUTHORIZED, Credentials({"username": "me", "password": secret}))
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert not error.retry
    assert secret not in error.message
    assert "Authorization: Basic bWU6czNjcjN0LXZhbHVl" in requests[0]


async def test_a_redirect_is_not_followed(checkout: GitCheckout) -> None:
    answer = b"HTTP/1.1 302 Go\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    error, requests = await ask(checkout, answer, Credentials())
    assert error.reason is Reason.SOURCE_REFUSED
    assert len(requests) == 1


async def test_a_missing_repository_over_http_is_not_retried_blindly(checkout: GitCheckout) -> None:
    answer = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    error, _ = await ask(checkout, answer, Credentials())
    assert error.reason is Reason.SOURCE_NOT_FOUND


async def test_a_server_that_never_answers_ends_with_the_timeout(checkout: GitCheckout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.git"
        begin = time.monotonic()
        with pytest.raises(SourceError, match="within") as caught:
            await checkout.ls_remote(Remote(url, MAIN, seconds=0.5))
        assert time.monotonic() - begin < 5
    assert caught.value.retry
    assert "git-remote-http" not in "".join(children_of(os.getpid()))


def children_of(pid: int) -> list[str]:
    names = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        if int(rest[1]) == pid:
            names.append(name)
    return names


@pytest.mark.parametrize(
    "url",
    [
        "-oProxyCommand=touch x",
        "--upload-pack=touch x",
        "ext::sh -c touch% x",
        "https://host/x::y",
        "file:///etc",
        "git://host/x",
        "/etc",
        "https://user:password@host/x.git",
        "https://token@host/x.git",
        "ssh://-oProxyCommand=x/y",
        "https://host/a b",
        "https://host/a\nb",
    ],
)
async def test_dangerous_urls_never_reach_git(url: str, tmp_path: Path) -> None:
    checkout = GitCheckout(tmp_path, policy=AnyAddress())
    try:
        with pytest.raises(SourceError) as caught:
            await checkout.ls_remote(Remote(url, MAIN))
    finally:
        await checkout.close()
    assert caught.value.reason is Reason.SOURCE_REFUSED
    assert "password@" not in caught.value.message


async def test_the_dial_policy_is_asked_before_anything_is_dialled(tmp_path: Path) -> None:
    class Nothing:
        def addresses(self, url: str) -> tuple[str, ...]:
            raise SourceError(Reason.SOURCE_REFUSED, f"no calls to {url}")

    checkout = GitCheckout(tmp_path, policy=Nothing())
    remote = Remote("http://169.254.169.254/latest", MAIN)
    try:
        for call in (checkout.ls_remote(remote), checkout.fetch(remote, "0" * 40)):
            with pytest.raises(SourceError, match="no calls"):
                await call
    finally:
        await checkout.close()


async def test_ssh_needs_a_key_and_known_hosts(checkout: GitCheckout) -> None:
    with pytest.raises(SourceError, match="known_hosts") as caught:
        await checkout.ls_remote(Remote("ssh://git@127.0.0.1/x.git", MAIN, Credentials({"identity": "k"})))
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED


def test_private_files_are_private_and_gone_afterwards() -> None:
    credentials = Credentials({"identity": "KEY", "known_hosts": "HOSTS"})
    with gitcommand.environment("ssh://git@host/x.git", credentials) as environment:
        home = Path(environment["HOME"])
        assert (home / "identity").stat().st_mode & 0o777 == 0o600
        assert "KEY" not in environment["GIT_SSH_COMMAND"]
        assert "StrictHostKeyChecking=yes" in environment["GIT_SSH_COMMAND"]
    assert not home.exists()


def test_the_environment_of_the_machine_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/somewhere")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.sshCommand=x'")
    monkeypatch.setenv("SECRET_OF_THE_MACHINE", "x")
    with gitcommand.environment("https://host/x.git", Credentials()) as environment:
        assert not {"GIT_DIR", "GIT_CONFIG_PARAMETERS", "SECRET_OF_THE_MACHINE"} & environment.keys()


async def test_another_git_dir_in_the_environment_is_not_read(
    repository: Repository, checkout: GitCheckout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = repository.commit({"f": "1"})
    other = Repository(tmp_path / "other")
    other.commit({"wrong": "1"})
    monkeypatch.setenv("GIT_DIR", str(other.place / ".git"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.place / ".git" / "objects"))
    remote = Remote(repository.url, MAIN)
    await checkout.fetch(remote, commit)
    assert await checkout.inspect(remote, commit, paths) == ["f"]


async def test_a_tree_that_unfolds_without_end_is_refused(repository: Repository, checkout: GitCheckout) -> None:
    inner = repository.git("hash-object", "-w", "--stdin", feed="x")
    kind, mode = "blob", "100644"
    for _ in range(8):
        lines = "".join(f"{mode} {kind} {inner}\td{number}\n" for number in range(10))
        inner = repository.git("mktree", feed=lines)
        kind, mode = "tree", "040000"
    commit = repository.git("commit-tree", inner, "-m", "bomb")
    repository.git("update-ref", "refs/heads/main", commit)
    remote = Remote(repository.url, MAIN)
    await checkout.fetch(remote, commit)
    with pytest.raises(SourceError, match="entries") as caught:
        await checkout.inspect(remote, commit, paths)
    assert caught.value.reason is Reason.SOURCE_REFUSED


async def test_a_huge_file_is_read_as_far_as_asked_and_the_next_one_well(
    repository: Repository, checkout: GitCheckout
) -> None:
    commit = repository.commit({"huge.yaml": "x" * 3_000_000, "small": "y"})
    remote = Remote(repository.url, MAIN)
    await checkout.fetch(remote, commit)
    both = await checkout.inspect(remote, commit, lambda tree: (tree.read("huge.yaml", 10), tree.read("small", 10)))
    assert both == (b"x" * 10, b"y")


async def test_a_folder_that_cannot_be_written_is_told_and_tried_again(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"f": "1"})
    (tmp_path / "file").touch()
    checkout = GitCheckout(tmp_path / "file", policy=AnyAddress(), protocols=("file",))
    try:
        with pytest.raises(SourceError, match="folder of git mirrors") as caught:
            await checkout.fetch(Remote(repository.url, MAIN), commit)
    finally:
        await checkout.close()
    assert caught.value.retry


async def test_one_mirror_serves_many_at_once(repository: Repository, checkout: GitCheckout) -> None:
    commit = repository.commit({"f": "1"})
    remote = Remote(repository.url, MAIN)
    came = await asyncio.gather(*(checkout.fetch(remote, commit) for _ in range(8)))
    assert set(came) == {commit}


async def test_a_signed_commit_is_told_from_others(
    repository: Repository, checkout: GitCheckout, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    allowed = f"a@example.com {key.with_suffix('.pub').read_text()}"
    remote = Remote(repository.url, MAIN)
    unsigned = repository.commit({"f": "1"})
    await checkout.fetch(remote, unsigned)
    with pytest.raises(SourceError, match="not signed") as caught:
        await checkout.verify(remote, unsigned, allowed)
    assert caught.value.reason is Reason.UNVERIFIED
    for name, value in (("gpg.format", "ssh"), ("user.signingkey", str(key)), ("commit.gpgsign", "true")):
        repository.git("config", name, value)
    signed = repository.commit({"f": "2"})
    await checkout.fetch(remote, signed)
    await checkout.verify(remote, signed, allowed)
    with pytest.raises(SourceError, match="not signed"):
        await checkout.verify(remote, signed, allowed.replace("AAAA", "AAAB"))
