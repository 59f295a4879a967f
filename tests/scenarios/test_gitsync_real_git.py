"""The whole way of a push with a real git server, and a memory cluster at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from knative_lambda.api import kinds
from knative_lambda.api.conditions import ConditionType
from knative_lambda.api.meta import Key
from knative_lambda.gitsync.checkout import GitCheckout
from tests.testbed.gitserver import Failure, GitServer
from tests.unit.gitsync.repositories import AnyAddress, Repository
from tests.unit.gitsync.stage import KEY, Stage, function_files

FUNCTIONS = 300


class Pushed:
    """A stage whose remote is a real repository."""

    def __init__(self, stage: Stage, repository: Repository, url: str) -> None:
        self.stage = stage
        self.repository = repository
        self.url = url

    def push(self, files: dict[str, str]) -> str:
        commit = self.repository.commit(files)
        self.repository.git("push", "--quiet", "--force", self.url, "main")
        return commit

    async def sync(self) -> None:
        self.stage.world.requests.mark(KEY)
        await self.stage.sync()


@pytest_asyncio.fixture
async def pushed(git_server: GitServer, tmp_path: Path) -> AsyncIterator[Pushed]:
    checkout = GitCheckout(tmp_path / "mirrors", policy=AnyAddress())
    url = git_server.create_repository(tmp_path.name)
    async with Stage().running() as stage:
        stage.world = dataclasses.replace(stage.world, checkout=checkout)
        yield Pushed(stage, Repository(tmp_path / "work"), url)
    await checkout.close()


async def test_a_real_push_of_one_directory_in_many_writes_one_function(pushed: Pushed) -> None:
    stage = pushed.stage
    files = function_files(*(f"fn-{number:03}" for number in range(FUNCTIONS)))
    first = pushed.push({path: str(text) for path, text in files.items()})
    await stage.repository(url=pushed.url)
    await pushed.sync()
    assert len(stage.functions.store) == FUNCTIONS
    stage.cluster.counts.reset()
    second = pushed.push({"functions/fn-007/main.py": "def handler(event): return 7\n"})
    await pushed.sync()
    assert stage.cluster.counts.of("apply", kinds.LAMBDA_FUNCTION) == 1
    assert stage.cluster.counts.of("get") == 0
    assert stage.cluster.counts.writes == 2
    for name, commit in (("fn-007", second), ("fn-008", first)):
        assert (await stage.function(name))["spec"]["source"]["git"]["commit"] == commit


async def test_a_forced_push_and_a_broken_directory_end_in_one_status(pushed: Pushed) -> None:
    stage, repository = pushed.stage, pushed.repository
    pushed.push({path: str(text) for path, text in function_files("a", "b").items()})
    await stage.repository(url=pushed.url)
    await pushed.sync()
    repository.git("checkout", "--quiet", "--orphan", "rewritten")
    repository.write({"functions/a/function.yaml": "spec:\n  runtime:\n    language: cobol\n"})
    commit = repository.commit()
    repository.git("branch", "--force", "main", commit)
    repository.git("push", "--quiet", "--force", pushed.url, "main")
    await pushed.sync()
    status = (await stage.repo()).status
    assert status.observed_revision == f"main@{commit}"
    assert [str(one) for one in status.findings] == [
        "functions/a/function.yaml:3: /spec/runtime/language: unknown runtime 'cobol'; known: nodejs, python, go"
    ]
    assert await stage.names() == ["a", "b"]


async def test_a_git_server_that_is_away_leaves_functions_alone_and_heals(
    pushed: Pushed, git_server: GitServer
) -> None:
    stage = pushed.stage
    pushed.push({path: str(text) for path, text in function_files("a").items()})
    await stage.repository(url=pushed.url)
    await pushed.sync()
    git_server.failure = Failure.UNAVAILABLE
    await pushed.sync()
    assert await stage.reason(ConditionType.FETCHED) == "False/Unreachable"
    assert Key(KEY.namespace, "a") in stage.functions.store
    git_server.failure = Failure.NONE
    await pushed.sync()
    assert await stage.reason(ConditionType.READY) == "True/Ready"
