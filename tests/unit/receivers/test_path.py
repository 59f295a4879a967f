"""Where a forge calls is shown in the repository's status, and known to the receiver at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from knative_lambda.api.meta import Key
from knative_lambda.api.repository import hook_path
from tests.unit.gitsync.stage import KEY, URL, Stage, function_files

WEBHOOK = {"secretRef": {"name": "hook"}}


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage().running() as running:
        running.checkout.push(URL, function_files("hello"))
        yield running


async def test_the_path_is_shown_with_the_webhook_and_goes_with_it(stage: Stage) -> None:
    await stage.repository(webhook=WEBHOOK)
    await stage.sync()
    repo = await stage.repo()
    assert repo.status.webhook_path == hook_path(repo.metadata.uid, KEY)
    seen = stage.repositories.store.get(KEY)
    assert seen is not None
    assert seen.webhook is not None
    assert seen.webhook.path == repo.status.webhook_path
    assert seen.webhook.secret == "hook"
    await stage.change_repository({"spec": {"webhook": None}})
    await stage.sync()
    assert (await stage.repo()).status.webhook_path == ""


async def test_the_path_is_shown_although_nothing_can_be_fetched_or_the_repository_is_suspended(stage: Stage) -> None:
    await stage.repository(webhook=WEBHOOK, url="https://git.example.com/not/there.git")
    await stage.sync()
    path = (await stage.repo()).status.webhook_path
    assert path
    await stage.change_repository({"spec": {"suspend": True}})
    await stage.sync()
    assert (await stage.repo()).status.webhook_path == path
    seen = stage.repositories.store.get(KEY)
    assert seen is not None
    assert seen.webhook is not None
    assert seen.webhook.suspended


async def test_a_settled_repository_is_known_by_its_commit_and_an_unsettled_one_is_not(stage: Stage) -> None:
    await stage.repository(webhook=WEBHOOK)
    commit = await stage.push_and_sync(function_files("hello", "world"))
    seen = stage.repositories.store.get(KEY)
    assert seen is not None
    assert seen.webhook is not None
    assert seen.webhook.settled == commit
    broken = {**function_files("hello"), "functions/broken/function.yaml": "spec: 7\n"}
    await stage.push_and_sync(broken)
    seen = stage.repositories.store.get(KEY)
    assert seen is not None
    assert seen.webhook is not None
    assert seen.webhook.settled == ""


@pytest.mark.parametrize(
    ("uid", "key"), [("2", Key("a", "b")), ("1", Key("a", "c")), ("1", Key("c", "b")), ("1", Key("ab", ""))]
)
def test_every_repository_has_a_path_of_its_own(uid: str, key: Key) -> None:
    assert hook_path(uid, key) != hook_path("1", Key("a", "b"))
    assert hook_path(uid, key) == hook_path(uid, key)
