"""What goes wrong around a repository, and what its status says then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from knative_lambda.api import kinds, meta
from knative_lambda.api.conditions import ConditionType
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import CircuitOpen, Conflict, Forbidden, NotFound, Unavailable
from tests.unit.gitsync.stage import KEY, URL, Stage, function_files

READY, APPLIED = ConditionType.READY, ConditionType.APPLIED
STALLED, RECONCILING = ConditionType.STALLED, ConditionType.RECONCILING
FUNCTION = kinds.LAMBDA_FUNCTION


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage().running() as running:
        yield running


async def synced(stage: Stage, *names: str, **spec: Any) -> None:
    stage.checkout.push(URL, function_files(*names))
    await stage.repository(**spec)
    await stage.sync()


async def secret(stage: Stage, name: str, **data: str) -> None:
    about = {"namespace": KEY.namespace, "name": name}
    await stage.cluster.create(kinds.SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": data})


async def test_a_spec_that_cannot_be_read_stalls_and_says_which_field(stage: Stage) -> None:
    await synced(stage, "hello", interval="1s")
    assert await stage.reason(READY) == "False/InvalidSpec"
    assert await stage.reason(STALLED) == "True/InvalidSpec"
    row = await stage.condition(READY)
    assert row is not None
    assert "spec.interval: " in row.message
    assert await stage.names() == []
    await stage.change_repository({"spec": {"interval": "1m"}})
    await stage.sync()
    assert await stage.reason(READY) == "True/Ready"
    assert await stage.reason(STALLED) == ""


async def test_a_repository_whose_spec_broke_can_be_deleted(stage: Stage) -> None:
    await synced(stage, "hello")
    await stage.change_repository({"spec": {"interval": "1s"}})
    await stage.cluster.delete(kinds.FUNCTION_REPOSITORY, KEY)
    await stage.settle()
    assert await stage.sync() is None
    assert (await stage.cluster.list(kinds.FUNCTION_REPOSITORY)).items == []
    assert await stage.names() == ["hello"]


@pytest.mark.parametrize("error", [Forbidden("not you"), Unavailable("away")])
async def test_a_secret_that_cannot_be_read_is_named(stage: Stage, error: Exception) -> None:
    stage.cluster.fail_next("get", kinds.SECRET, error)  # type: ignore[arg-type]
    await synced(stage, "hello", secretRef={"name": "git"})
    row = await stage.condition(READY)
    assert row is not None
    assert f"Secret {KEY.namespace}/git" in row.message
    assert await stage.reason(STALLED) == ("True/SecretNotFound" if isinstance(error, Forbidden) else "")


async def test_a_secret_that_is_not_text_is_named(stage: Stage) -> None:
    await secret(stage, "git", password="/w==")
    await synced(stage, "hello", secretRef={"name": "git"})
    assert await stage.reason(READY) == "False/SecretNotFound"


async def test_signers_that_are_not_in_the_secret_are_missed(stage: Stage) -> None:
    await secret(stage, "signers", other="eA==")
    await synced(stage, "hello", verify={"secretRef": {"name": "signers"}})
    row = await stage.condition(READY)
    assert row is not None
    assert (row.reason, row.message) == ("SecretNotFound", "Secret signers has no key allowed_signers")
    assert await stage.names() == []


async def test_a_failed_deletion_stays_in_the_inventory_and_is_tried_again(stage: Stage) -> None:
    await synced(stage, "hello", "world")
    stage.cluster.fail_next("delete", FUNCTION, Unavailable("away"))
    await stage.push_and_sync(function_files("hello"))
    assert [item.name for item in (await stage.repo()).status.inventory] == ["hello", "world"]
    assert await stage.reason(APPLIED) == "False/WriteFailed"
    await stage.sync()
    assert (await stage.function("world"))["metadata"]["deletionTimestamp"]
    assert [item.name for item in (await stage.repo()).status.inventory] == ["hello"]


@pytest.mark.parametrize("error", [NotFound("gone"), Conflict("another uid")])
async def test_what_is_gone_already_needs_no_deletion(stage: Stage, error: Exception) -> None:
    await synced(stage, "hello", "world")
    stage.cluster.fail_next("delete", FUNCTION, error)  # type: ignore[arg-type]
    await stage.push_and_sync(function_files("hello"))
    assert await stage.reason(APPLIED) == "True/Applied"
    assert [item.name for item in (await stage.repo()).status.inventory] == ["hello"]


async def test_an_update_that_fails_keeps_what_was_applied_in_the_inventory(stage: Stage) -> None:
    await synced(stage, "hello")
    before = (await stage.repo()).status.inventory
    stage.cluster.fail_next("apply", FUNCTION, Unavailable("away"))
    commit = await stage.push_and_sync(function_files("hello", code="x = 1\n"))
    assert (await stage.repo()).status.inventory == before
    assert await stage.reason(RECONCILING) == "True/WriteFailed"
    assert (await stage.repo()).status.applied_revision != f"main@{commit}"
    await stage.sync()
    assert (await stage.repo()).status.applied_revision == f"main@{commit}"


async def test_a_write_whose_answer_was_lost_is_not_lost(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    stage.cluster.fail_next("apply", FUNCTION, Unavailable("cut"), after=True)
    await stage.sync()
    assert [item.name for item in (await stage.repo()).status.inventory] == ["hello"]
    await stage.sync()
    assert await stage.reason(READY) == "True/Ready"
    assert stage.cluster.counts.of("apply", FUNCTION) == 1


async def test_a_server_that_is_given_up_is_not_asked_a_thousand_times(stage: Stage) -> None:
    stage.checkout.push(URL, function_files(*(f"fn-{number}" for number in range(200))))
    await stage.repository()
    stage.cluster.fail_next("apply", FUNCTION, CircuitOpen("open"), times=1000)
    await stage.sync()
    assert stage.cluster.counts.of("apply", FUNCTION) <= 16
    assert await stage.reason(APPLIED) == "False/WriteFailed"


async def test_repeated_write_failures_wait_longer(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    stage.cluster.fail_next("apply", FUNCTION, Unavailable("away"), times=8)
    waits = []
    for _ in range(5):
        again = await stage.sync()
        waits.append(again.after if again else 0.0)
    assert waits[-1] > 4 * waits[0]


async def test_a_sync_with_much_to_write_reports_between(stage: Stage) -> None:
    async with Stage(write_seconds=0.02).running() as short:
        short.checkout.push(URL, function_files(*(f"fn-{number:03}" for number in range(60))))
        await short.repository()
        short.cluster.latency = 0.01
        running = asyncio.create_task(short.sync())
        while not running.done():
            await short.clock.advance(0.01)
        again = running.result()
        short.cluster.recover()
        assert again is not None
        assert again.after == 0
        row = await short.condition(APPLIED)
        assert row is not None
        assert row.message.endswith("of 60 functions written, the rest follows")
        written = len(await short.names())
        assert (await short.repo()).status.functions == written < 60
        await short.sync()
        assert len(await short.names()) == 60
        assert await short.reason(READY) == "True/Ready"


async def test_an_identical_name_after_deletion_starts_from_nothing(stage: Stage) -> None:
    await synced(stage, "hello")
    await stage.change_repository({"spec": {"prune": False}})
    await stage.cluster.delete(kinds.FUNCTION_REPOSITORY, KEY)
    await stage.settle()
    await stage.sync()
    other = "https://git.example.com/other.git"
    stage.checkout.push(other, function_files("hello", "second"))
    await stage.repository(url=other)
    await stage.sync()
    assert (await stage.function("hello"))["spec"]["source"]["git"]["url"] == other
    assert await stage.names() == ["hello", "second"]


async def test_a_moved_target_namespace_moves_the_functions(stage: Stage) -> None:
    await synced(stage, "hello", "world", targetNamespace="old")
    await stage.change_repository({"spec": {"targetNamespace": "new"}})
    await stage.sync()
    page = await stage.cluster.list(FUNCTION)
    places = {Key(one["metadata"]["namespace"], one["metadata"]["name"]): one["metadata"] for one in page.items}
    assert {key for key, about in places.items() if "deletionTimestamp" not in about} == {
        Key("new", "hello"),
        Key("new", "world"),
    }
    assert all(about["deletionTimestamp"] for key, about in places.items() if key.namespace == "old")


async def test_a_deleted_repository_waits_for_what_the_cache_does_not_show_yet(stage: Stage) -> None:
    await synced(stage, "hello")
    await stage.sync()
    await stage.cluster.delete(kinds.FUNCTION_REPOSITORY, KEY)
    stage.cluster.fail_next("delete", FUNCTION, Unavailable("away"))
    await stage.settle()
    with pytest.raises(Unavailable):
        await stage.sync()
    assert (await stage.repo()).metadata.finalizers == (meta.FINALIZER,)
    await stage.sync()
    await stage.remove_finalizers("hello")
    stage.cluster.fail_next("patch", kinds.FUNCTION_REPOSITORY, NotFound("gone"))
    assert await stage.sync() is None
