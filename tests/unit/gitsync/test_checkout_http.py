"""The same mirrors over smart HTTP, as forges serve it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from knative_lambda.api.conditions import Reason
from knative_lambda.api.repository import Ref
from knative_lambda.gitsync.base import Remote
from knative_lambda.gitsync.checkout import GitCheckout
from knative_lambda.sources.base import ANONYMOUS, Credentials, SourceError
from tests.testbed import gitserver
from tests.testbed.gitserver import Failure, GitServer
from tests.unit.gitsync.repositories import Repository

MAIN = Ref(branch="main")


def served(server: GitServer, repository: Repository, name: str) -> str:
    """The repository, pushed to the server under a name; its URL there."""
    url = server.create_repository(name)
    repository.git("push", "--quiet", "--force", url, "main")
    return url


async def test_a_push_over_http_is_seen_and_only_its_change_is_fetched(
    git_server: GitServer, repository: Repository, checkout: GitCheckout
) -> None:
    first = repository.commit({"a/f": "1", "b/f": "1"})
    remote = Remote(served(git_server, repository, "push"), MAIN)
    assert await checkout.fetch(remote, await checkout.ls_remote(remote)) == first
    second = repository.commit({"a/f": "2"})
    repository.git("push", "--quiet", remote.url, "main")
    assert await checkout.ls_remote(remote) == second
    assert await checkout.fetch(remote, second) == second
    assert await checkout.inspect(remote, second, lambda tree: tree.read("a/f", 9)) == b"2"


async def test_credentials_open_what_is_closed_without_and_after_they_expired(
    git_server: GitServer, repository: Repository, checkout: GitCheckout, tmp_path: Path
) -> None:
    commit = repository.commit({"f": "1"})
    url = served(git_server, repository, "closed")
    git_server.require("closed", user="me", password="first")
    valid = Remote(url, MAIN, Credentials({"username": "me", "password": "first"}))
    assert await checkout.fetch(valid, await checkout.ls_remote(valid)) == commit
    git_server.require("closed", user="me", password="second")
    for credentials in (valid.credentials, ANONYMOUS):
        with pytest.raises(SourceError) as caught:
            await checkout.ls_remote(Remote(url, MAIN, credentials))
        assert caught.value.reason is Reason.AUTHENTICATION_FAILED
        assert not caught.value.retry
        assert "first" not in caught.value.message
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and "mirrors" in file.parts]
    assert written
    assert not any(b"first" in content for content in written)


async def test_what_one_may_see_is_not_shown_to_another(
    git_server: GitServer, repository: Repository, checkout: GitCheckout
) -> None:
    commit = repository.commit({"f": "1"})
    url = served(git_server, repository, "apart")
    mine = Remote(url, MAIN, Credentials({"username": "me", "password": "x"}))
    await checkout.fetch(mine, commit)
    git_server.require("apart", user="me", password="x")
    with pytest.raises(SourceError):
        await checkout.fetch(Remote(url, MAIN), commit)
    with pytest.raises(SourceError):
        await checkout.inspect(Remote(url, MAIN), commit, lambda tree: tree.subtree_id(""))


@pytest.mark.parametrize(
    ("failure", "reason", "retry"),
    [
        (Failure.UNAVAILABLE, Reason.UNREACHABLE, True),
        (Failure.CUT, Reason.UNREACHABLE, True),
        (Failure.HANG, Reason.UNREACHABLE, True),
        (Failure.REFUSE, Reason.AUTHENTICATION_FAILED, False),
        (Failure.FORBID, Reason.AUTHENTICATION_FAILED, False),
    ],
)
async def test_failures_of_a_server_have_their_reasons_and_pass(
    git_server: GitServer, repository: Repository, checkout: GitCheckout, failure: Failure, reason: Reason, retry: bool
) -> None:
    commit = repository.commit({"f": "1"})
    remote = Remote(served(git_server, repository, f"failing-{failure}"), MAIN, seconds=1.5)
    git_server.failure = failure
    for call in (checkout.ls_remote(remote), checkout.fetch(remote, commit)):
        with pytest.raises(SourceError) as caught:
            await call
        assert (caught.value.reason, caught.value.retry) == (reason, retry)
    git_server.failure = Failure.NONE
    assert await checkout.fetch(remote, await checkout.ls_remote(remote)) == commit


async def test_a_repository_that_was_removed_is_not_found(
    git_server: GitServer, repository: Repository, checkout: GitCheckout
) -> None:
    repository.commit({"f": "1"})
    remote = Remote(served(git_server, repository, "removed"), MAIN)
    git_server.delete_repository("removed")
    with pytest.raises(SourceError) as caught:
        await checkout.ls_remote(remote)
    assert caught.value.reason is Reason.SOURCE_NOT_FOUND


async def test_an_empty_repository_has_no_ref(git_server: GitServer, checkout: GitCheckout) -> None:
    url = git_server.create_repository("empty")
    for ref in (MAIN, Ref()):
        with pytest.raises(SourceError) as caught:
            await checkout.ls_remote(Remote(url, ref))
        assert caught.value.reason is Reason.REF_NOT_FOUND


class OldHandler(gitserver._Handler):
    """Speaks only the first version of git's protocol, in which a server gives out no commit that no ref names."""

    def _environment(self, path: str, query: str) -> dict[str, str]:
        told = super()._environment(path, query)
        told.pop("HTTP_GIT_PROTOCOL", None)
        return told


@pytest.fixture
def old_server() -> Iterator[GitServer]:
    with GitServer.start() as server:
        server._server.RequestHandlerClass = OldHandler
        yield server


def strict(server: GitServer, repository: Repository) -> str:
    url = served(server, repository, "strict")
    for name in ("uploadpack.allowAnySHA1InWant", "uploadpack.allowReachableSHA1InWant"):
        repository.git("-C", str(server.path("strict")), "config", name, "false")
    return url


async def test_an_old_commit_is_had_from_a_server_that_gives_out_none(
    old_server: GitServer, repository: Repository, checkout: GitCheckout
) -> None:
    first = repository.commit({"f": "1"})
    repository.commit({"f": "2"})
    pinned = Remote(strict(old_server, repository), Ref(commit=first))
    assert await checkout.fetch(pinned, first) == first
    assert await checkout.inspect(pinned, first, lambda tree: tree.read("f", 9)) == b"1"
    absent = "0" * 39 + "1"
    with pytest.raises(SourceError) as caught:
        await checkout.fetch(Remote(pinned.url, Ref(commit=absent)), absent)
    assert caught.value.reason is Reason.REF_NOT_FOUND


async def test_a_branch_that_moved_meanwhile_is_had_as_it_is_now(
    old_server: GitServer, repository: Repository, checkout: GitCheckout
) -> None:
    first = repository.commit({"f": "1"})
    remote = Remote(strict(old_server, repository), MAIN)
    second = repository.commit({"f": "2"})
    repository.git("push", "--quiet", remote.url, "main")
    assert await checkout.fetch(remote, first) == second
    assert await checkout.inspect(remote, second, lambda tree: tree.read("f", 9)) == b"2"


async def test_an_annotated_tag_is_had_as_its_commit(
    old_server: GitServer, repository: Repository, checkout: GitCheckout
) -> None:
    commit = repository.commit({"f": "1"})
    url = strict(old_server, repository)
    repository.git("tag", "-a", "v1", "-m", "first")
    repository.git("push", "--quiet", url, "v1")
    repository.git("push", "--quiet", "--force", url, f"{repository.commit({'f': '2'})}:refs/heads/main")
    remote = Remote(url, Ref(tag="v1"))
    assert await checkout.ls_remote(remote) == commit
    assert await checkout.fetch(remote, commit) == commit
