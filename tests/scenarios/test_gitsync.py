"""A repository and a cluster in, LambdaFunctions and a status out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from knative_lambda.api import kinds, meta
from knative_lambda.api.conditions import ConditionType, Reason
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Conflict, Invalid, TooManyRequests, Unavailable, WriteFenced
from knative_lambda.sources.base import SourceError
from tests.unit.gitsync.stage import KEY, URL, Stage, function_files, function_yaml

READY, FETCHED, APPLIED = ConditionType.READY, ConditionType.FETCHED, ConditionType.APPLIED
STALLED, RECONCILING = ConditionType.STALLED, ConditionType.RECONCILING


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage().running() as running:
        yield running


def pin(fn: dict[str, Any]) -> str:
    commit: str = fn["spec"]["source"]["git"]["commit"]
    return commit


def writes(stage: Stage) -> dict[str, int]:
    """Calls that change something, and single reads, by verb and kind."""
    table = stage.cluster.counts.table()
    return {f"{verb} {kind.kind}": count for (verb, kind), count in table.items() if verb not in ("list", "watch")}


async def test_a_push_becomes_functions_with_source_and_owner(stage: Stage) -> None:
    commit = stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository()
    again = await stage.sync()
    assert again is not None
    assert 50 < again.after < 70
    assert await stage.names() == ["hello", "world"]
    fn = await stage.function("hello")
    assert fn["spec"]["source"] == {
        "type": "git",
        "git": {"url": URL, "ref": "main", "commit": commit, "path": "functions/hello"},
    }
    assert fn["metadata"]["labels"] == {meta.LABEL_REPOSITORY: KEY.name, meta.LABEL_REPOSITORY_NAMESPACE: KEY.namespace}
    assert fn["metadata"]["annotations"][meta.ANNOTATION_REVISION] == commit
    assert fn["metadata"]["finalizers"] == [meta.FINALIZER]
    repo = await stage.repo()
    assert repo.status.observed_revision == repo.status.applied_revision == f"main@{commit}"
    assert repo.status.functions == 2
    assert [(item.name, item.path, item.commit) for item in repo.status.inventory] == [
        ("hello", "functions/hello", commit),
        ("world", "functions/world", commit),
    ]
    assert await stage.reason(READY) == "True/Ready"
    assert await stage.reason(FETCHED) == "True/Fetched"
    assert await stage.reason(APPLIED) == "True/Applied"
    assert await stage.condition(STALLED) is None
    assert await stage.condition(RECONCILING) is None
    assert repo.metadata.finalizers == (meta.FINALIZER,)
    assert ("Normal", "Applied", f"wrote 2 and deleted 0 functions for main@{commit}") in stage.notices.told


async def test_a_second_look_writes_nothing_and_reads_nothing(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    before = writes(stage)
    await stage.sync()
    await stage.clock.advance(120)
    await stage.sync()
    assert stage.checkout.calls["ls_remote"] == 2
    assert stage.checkout.calls["fetch"] == 1
    assert writes(stage) == before


async def test_a_commit_writes_only_the_directory_that_it_touched(stage: Stage) -> None:
    files = function_files(*(f"fn-{number}" for number in range(50)))
    first = stage.checkout.push(URL, files)
    await stage.repository()
    await stage.sync()
    before = writes(stage)
    second = await stage.push_and_sync({**files, "functions/fn-7/main.py": "def handler(event): return 2\n"})
    after = writes(stage)
    assert {call: after[call] - before.get(call, 0) for call in after if after[call] != before.get(call, 0)} == {
        "apply LambdaFunction": 1,
        "patch_status FunctionRepository": 1,
    }
    assert pin(await stage.function("fn-7")) == second
    assert pin(await stage.function("fn-8")) == first


async def test_a_changed_setting_does_not_move_the_pin_and_so_builds_nothing(stage: Stage) -> None:
    first = stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    await stage.push_and_sync(function_files("hello", extra="  scaling: {minReplicas: 2}\n"))
    fn = await stage.function("hello")
    assert fn["spec"]["scaling"]["minReplicas"] == 2
    assert pin(fn) == first


async def test_a_watched_path_moves_the_pin(stage: Stage) -> None:
    files = {**function_files("hello", extra="  build: {watchPaths: [shared]}\n"), "shared/lib.py": "A = 1\n"}
    stage.checkout.push(URL, files)
    await stage.repository()
    await stage.sync()
    second = await stage.push_and_sync({**files, "shared/lib.py": "A = 2\n"})
    assert pin(await stage.function("hello")) == second


async def test_a_restarted_controller_keeps_every_pin(stage: Stage) -> None:
    files = function_files("hello")
    first = stage.checkout.push(URL, files)
    await stage.repository()
    await stage.sync()
    await stage.push_and_sync({**files, **function_files("other")})
    stage.restart()
    before = writes(stage)
    await stage.sync()
    assert writes(stage) == before
    assert pin(await stage.function("hello")) == first


async def test_a_pin_survives_a_controller_that_died_before_its_status(stage: Stage) -> None:
    files = function_files("hello")
    stage.checkout.push(URL, files)
    await stage.repository()
    await stage.sync()
    changed = {**files, "functions/hello/main.py": "def handler(event): return 2\n"}
    stage.cluster.fail_next("patch_status", kinds.FUNCTION_REPOSITORY, Unavailable("killed"))
    second = stage.checkout.push(URL, changed)
    stage.world.requests.mark(KEY)
    with pytest.raises(Unavailable):
        await stage.sync()
    await stage.settle()
    stage.restart()
    stage.checkout.push(URL, {**changed, "README.md": "news"})
    await stage.sync()
    assert pin(await stage.function("hello")) == second


async def test_a_field_that_left_git_leaves_the_object(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", extra="  env:\n  - {name: A, value: b}\n"))
    await stage.repository()
    await stage.sync()
    assert (await stage.function("hello"))["spec"]["env"] == [{"name": "A", "value": "b"}]
    await stage.push_and_sync(function_files("hello"))
    assert not (await stage.function("hello"))["spec"].get("env")


async def test_a_hand_edit_of_a_field_that_git_owns_is_set_back(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", extra="  scaling: {maxReplicas: 3}\n"))
    await stage.repository()
    await stage.sync()
    stage.asked.clear()
    key = Key(KEY.namespace, "hello")
    await stage.cluster.patch(kinds.LAMBDA_FUNCTION, key, {"spec": {"scaling": {"maxReplicas": 9}}})
    await stage.settle()
    assert stage.asked == [KEY]
    await stage.sync()
    assert (await stage.function("hello"))["spec"]["scaling"]["maxReplicas"] == 3
    assert stage.checkout.calls["ls_remote"] == 1


async def test_a_field_that_git_does_not_own_is_not_fought_over(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", extra="  env:\n  - {name: A, value: b}\n"))
    await stage.repository()
    await stage.sync()
    patch = {
        "spec": {"scaling": {"maxReplicas": 9}, "env": [{"name": "A", "value": "b"}, {"name": "MINE", "value": "1"}]}
    }
    await stage.cluster.patch(kinds.LAMBDA_FUNCTION, Key(KEY.namespace, "hello"), patch)
    await stage.settle()
    before = writes(stage)
    await stage.sync()
    await stage.sync()
    assert writes(stage) == before


async def test_the_status_of_a_function_wakes_nobody(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    stage.asked.clear()
    await stage.cluster.patch(
        kinds.LAMBDA_FUNCTION, Key(KEY.namespace, "hello"), {"status": {"url": "http://x"}}, subresource="status"
    )
    await stage.settle()
    assert stage.asked == []


async def test_our_own_status_wakes_nobody_and_a_spec_change_does(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    asked = set(stage.asked)
    stage.asked.clear()
    await stage.push_and_sync(function_files("hello", code="x = 1\n"))
    assert set(stage.asked) <= asked
    stage.asked.clear()
    await stage.cluster.patch(kinds.FUNCTION_REPOSITORY, KEY, {"status": {"functions": 1}}, subresource="status")
    await stage.settle()
    assert stage.asked == []
    await stage.change_repository({"spec": {"interval": "2m"}})
    assert stage.asked == [KEY]


async def test_a_function_that_vanished_from_git_is_pruned(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository()
    await stage.sync()
    await stage.push_and_sync(function_files("hello"))
    assert (await stage.function("world"))["metadata"]["deletionTimestamp"]
    await stage.remove_finalizers("world")
    assert await stage.names() == ["hello"]
    assert [item.name for item in (await stage.repo()).status.inventory] == ["hello"]


async def test_without_prune_it_stays_and_is_remembered(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository(prune=False)
    await stage.sync()
    await stage.push_and_sync(function_files("hello"))
    assert await stage.names() == ["hello", "world"]
    assert [item.name for item in (await stage.repo()).status.inventory] == ["hello", "world"]
    assert await stage.reason(READY) == "True/Ready"


async def test_a_repository_that_shrinks_to_nothing_deletes_nothing(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository()
    await stage.sync()
    commit = await stage.push_and_sync({"functions/README.md": "empty"})
    assert await stage.names() == ["hello", "world"]
    assert not (await stage.function("hello"))["metadata"].get("deletionTimestamp")
    assert await stage.reason(APPLIED) == "False/PruneGuarded"
    assert await stage.reason(STALLED) == "True/PruneGuarded"
    row = await stage.condition(APPLIED)
    assert row is not None
    assert f"{meta.ANNOTATION_ALLOW_PRUNE}={commit}" in row.message
    stage.asked.clear()
    await stage.change_repository({"metadata": {"annotations": {meta.ANNOTATION_ALLOW_PRUNE: commit}}})
    assert stage.asked == [KEY]
    await stage.sync()
    for name in ("hello", "world"):
        await stage.remove_finalizers(name)
    assert await stage.names() == []
    assert await stage.reason(READY) == "True/Ready"


async def test_many_deletions_at_once_need_a_word_and_a_few_do_not(stage: Stage) -> None:
    names = [f"fn-{number:02}" for number in range(24)]
    stage.checkout.push(URL, function_files(*names))
    await stage.repository()
    await stage.sync()
    await stage.push_and_sync(function_files(*names[:10]))
    assert await stage.reason(APPLIED) == "False/PruneGuarded"
    assert (await stage.repo()).status.functions == 24
    await stage.push_and_sync(function_files(*names[:14]))
    assert await stage.reason(APPLIED) == "True/Applied"
    assert (await stage.repo()).status.functions == 14


async def test_a_path_that_is_gone_is_an_error_and_prunes_nothing(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    await stage.push_and_sync({"README.md": "moved"})
    assert await stage.reason(FETCHED) == "False/SourceNotFound"
    assert await stage.names() == ["hello"]
    assert not (await stage.function("hello"))["metadata"].get("deletionTimestamp")


async def test_a_broken_function_file_keeps_its_running_function_and_blocks_nobody(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository()
    await stage.sync()
    broken = {**function_files("hello", "world", "third"), "functions/hello/function.yaml": "spec: [\n"}
    commit = await stage.push_and_sync(broken)
    assert await stage.names() == ["hello", "third", "world"]
    assert not (await stage.function("hello"))["metadata"].get("deletionTimestamp")
    repo = await stage.repo()
    assert [(one.file, one.line) for one in repo.status.findings] == [("functions/hello/function.yaml", 2)]
    assert repo.status.applied_revision == f"main@{commit}"
    assert [item.name for item in repo.status.inventory] == ["hello", "third", "world"]
    assert await stage.reason(APPLIED) == "True/Applied"
    assert await stage.reason(READY) == "False/Findings"
    assert await stage.reason(STALLED) == "True/Findings"
    await stage.push_and_sync(function_files("hello", "world", "third"))
    assert await stage.reason(READY) == "True/Ready"
    assert (await stage.repo()).status.findings == ()


async def test_a_function_of_somebody_else_is_a_finding_and_stays_as_it_is(stage: Stage) -> None:
    theirs = {
        "apiVersion": meta.API_VERSION,
        "kind": "LambdaFunction",
        "metadata": {"namespace": KEY.namespace, "name": "hello"},
        "spec": {"runtime": {"language": "python"}, "source": {"type": "inline", "inline": {"code": "theirs"}}},
    }
    await stage.cluster.create(kinds.LAMBDA_FUNCTION, theirs)
    stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository()
    await stage.sync()
    assert (await stage.function("hello"))["spec"]["source"]["inline"]["code"] == "theirs"
    assert await stage.names() == ["hello", "world"]
    repo = await stage.repo()
    assert [(one.function, one.file) for one in repo.status.findings] == [("hello", "functions/hello/function.yaml")]
    assert [item.name for item in repo.status.inventory] == ["world"]
    labels = {meta.LABEL_REPOSITORY: KEY.name, meta.LABEL_REPOSITORY_NAMESPACE: KEY.namespace}
    await stage.cluster.patch(kinds.LAMBDA_FUNCTION, Key(KEY.namespace, "hello"), {"metadata": {"labels": labels}})
    await stage.settle()
    await stage.sync()
    assert (await stage.function("hello"))["spec"]["source"]["type"] == "git"


async def test_a_function_that_appears_between_look_and_write_is_not_taken(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    stage.cluster.fail_next("apply", kinds.LAMBDA_FUNCTION, Conflict("owned by somebody else"))
    again = await stage.sync()
    assert again is not None
    assert again.after < 2
    assert await stage.reason(APPLIED) == "False/WriteFailed"
    assert await stage.reason(RECONCILING) == "True/WriteFailed"
    assert (await stage.repo()).status.applied_revision == ""


async def test_what_the_api_server_refuses_is_a_finding_and_is_not_sent_again_and_again(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository()
    stage.cluster.fail_next("apply", kinds.LAMBDA_FUNCTION, Invalid("spec.scaling: too much"))
    await stage.sync()
    findings = (await stage.repo()).status.findings
    assert len(findings) == 1
    assert "too much" in findings[0].message
    assert (await stage.repo()).status.functions == 1
    before = writes(stage)
    await stage.sync()
    assert writes(stage) == before
    await stage.clock.advance(700)
    await stage.sync()
    assert await stage.names() == ["hello", "world"]
    assert await stage.reason(READY) == "True/Ready"


async def test_an_overloaded_server_is_asked_again_when_it_said(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository()
    stage.cluster.fail_next("apply", kinds.LAMBDA_FUNCTION, TooManyRequests("slow down", retry_after=7.0))
    again = await stage.sync()
    assert again is not None
    assert again.after == 7.0
    assert len(await stage.names()) == 1
    await stage.sync()
    assert await stage.names() == ["hello", "world"]
    assert await stage.reason(READY) == "True/Ready"


async def test_who_lost_the_lead_reports_nothing(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    stage.cluster.fail_next("apply", kinds.LAMBDA_FUNCTION, WriteFenced("not the leader"))
    with pytest.raises(WriteFenced):
        await stage.sync()
    assert (await stage.repo()).status.conditions == ()


async def test_a_lagging_cache_causes_no_second_write(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    held = stage.world.functions
    empty = type(held)({"repository": lambda _: ()})
    behind = stage.world.__class__(
        **{**{name: getattr(stage.world, name) for name in stage.world.__slots__}, "functions": empty}
    )
    stage.world = behind
    await stage.sync()
    before = writes(stage)
    again = await stage.sync()
    assert writes(stage) == before
    assert again is not None
    assert again.after <= 30


@pytest.mark.parametrize(
    ("reason", "retry"),
    [
        (Reason.UNREACHABLE, True),
        (Reason.AUTHENTICATION_FAILED, False),
        (Reason.REF_NOT_FOUND, False),
        (Reason.SOURCE_NOT_FOUND, False),
        (Reason.SOURCE_REFUSED, False),
    ],
)
async def test_a_remote_that_fails_leaves_everything_running(stage: Stage, reason: Reason, retry: bool) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    stage.checkout.fail_next(SourceError(reason, "in these words", retry=retry))
    stage.world.requests.mark(KEY)
    again = await stage.sync()
    assert again is not None
    assert again.after < 2 if retry else again.after > 50
    assert await stage.reason(FETCHED) == f"False/{reason}"
    assert await stage.reason(READY) == f"False/{reason}"
    assert await stage.reason(STALLED) == ("" if retry else f"True/{reason}")
    assert await stage.reason(RECONCILING) == (f"True/{reason}" if retry else "")
    assert await stage.reason(APPLIED) == "True/Applied"
    assert ("Warning", reason.value, "in these words") in stage.notices.told
    assert await stage.names() == ["hello"]
    await stage.clock.advance(70)
    await stage.sync()
    assert await stage.reason(READY) == "True/Ready"
    assert await stage.reason(STALLED) == ""


async def test_an_unreachable_remote_is_written_down_once(stage: Stage) -> None:
    await stage.repository()
    stage.checkout.fail_next(SourceError(Reason.UNREACHABLE, "away", retry=True), times=5)
    await stage.sync()
    before = writes(stage)
    waits = []
    for _ in range(4):
        await stage.clock.advance(300)
        again = await stage.sync()
        waits.append(again.after if again else 0)
    assert writes(stage) == before
    assert waits[-1] > waits[0]


async def test_an_absent_branch_is_never_the_default_one(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository(ref={"branch": "gone"})
    await stage.sync()
    assert await stage.reason(READY) == "False/RefNotFound"
    assert await stage.names() == []


async def test_a_changed_url_builds_everything_from_the_new_place(stage: Stage) -> None:
    other = "https://git.example.com/team/moved.git"
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    commit = stage.checkout.push(other, function_files("hello"))
    await stage.change_repository({"spec": {"url": other}})
    await stage.sync()
    fn = await stage.function("hello")
    assert fn["spec"]["source"]["git"]["url"] == other
    assert pin(fn) == commit


async def test_suspend_does_nothing_until_it_is_lifted(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    await stage.change_repository({"spec": {"suspend": True}})
    stage.checkout.push(URL, function_files("hello", "world"))
    stage.world.requests.mark(KEY)
    assert await stage.sync() is None
    assert await stage.names() == ["hello"]
    assert await stage.reason(READY) == "Unknown/Suspended"
    assert await stage.reason(APPLIED) == "True/Applied"
    before = writes(stage)
    await stage.sync()
    assert writes(stage) == before
    await stage.change_repository({"spec": {"suspend": False}})
    await stage.sync()
    assert await stage.names() == ["hello", "world"]


async def test_the_annotation_asks_for_a_look_once(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    commit = stage.checkout.push(URL, function_files("hello", "world"))
    await stage.change_repository({"metadata": {"annotations": {meta.ANNOTATION_RECONCILE: "now"}}})
    await stage.sync()
    assert (await stage.repo()).status.applied_revision == f"main@{commit}"
    assert (await stage.repo()).status.last_handled_reconcile_at == "now"
    asked = stage.checkout.calls["ls_remote"]
    await stage.sync()
    assert stage.checkout.calls["ls_remote"] == asked


async def test_a_newer_request_ends_the_writing_of_an_older_commit(stage: Stage) -> None:
    names = [f"fn-{number:03}" for number in range(200)]
    stage.checkout.push(URL, function_files(*names))
    await stage.repository()
    stage.cluster.latency = 0.01
    running = asyncio.create_task(stage.sync())
    for _ in range(400):
        await stage.clock.advance(0.01)
        if len(stage.functions.store) >= 40:
            break
    newest = stage.checkout.push(URL, function_files("only", *names))
    stage.world.requests.mark(KEY)
    while not running.done():
        await stage.clock.advance(0.01)
    again = running.result()
    assert again is not None
    assert again.after == 0
    assert 40 <= len(stage.functions.store) < 200
    stage.cluster.recover()
    assert await stage.reason(APPLIED) == "Unknown/Applying"
    await stage.sync()
    assert len(await stage.names()) == 201
    assert (await stage.repo()).status.applied_revision == f"main@{newest}"


async def test_a_function_that_is_being_deleted_is_made_again_when_it_is_gone(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    await stage.cluster.delete(kinds.LAMBDA_FUNCTION, Key(KEY.namespace, "hello"))
    await stage.settle()
    await stage.sync()
    assert await stage.reason(APPLIED) == "Unknown/Applying"
    stage.asked.clear()
    await stage.remove_finalizers("hello")
    assert stage.asked == [KEY]
    await stage.sync()
    assert await stage.names() == ["hello"]
    assert await stage.reason(READY) == "True/Ready"


async def test_a_deleted_repository_takes_its_functions_and_then_its_finalizer(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello", "world"))
    await stage.repository()
    await stage.sync()
    await stage.cluster.delete(kinds.FUNCTION_REPOSITORY, KEY)
    await stage.settle()
    assert await stage.sync() is not None
    assert (await stage.repo()).metadata.finalizers == (meta.FINALIZER,)
    for name in ("hello", "world"):
        assert (await stage.function(name))["metadata"]["deletionTimestamp"]
        await stage.remove_finalizers(name)
    assert await stage.sync() is None
    assert (await stage.cluster.list(kinds.FUNCTION_REPOSITORY)).items == []
    assert await stage.sync() is None
    assert KEY not in stage.world.known


@pytest.mark.parametrize("spec", [{"prune": False}, {"suspend": True}])
async def test_a_deleted_repository_that_does_not_prune_leaves_its_functions(
    stage: Stage, spec: dict[str, Any]
) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    await stage.change_repository({"spec": spec})
    await stage.cluster.delete(kinds.FUNCTION_REPOSITORY, KEY)
    await stage.settle()
    assert await stage.sync() is None
    assert (await stage.cluster.list(kinds.FUNCTION_REPOSITORY)).items == []
    assert not (await stage.function("hello"))["metadata"].get("deletionTimestamp")


async def test_credentials_come_from_the_secret_and_a_missing_one_is_named(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository(secretRef={"name": "git"})
    await stage.sync()
    assert await stage.reason(READY) == "False/SecretNotFound"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": KEY.namespace, "name": "git"},
        "data": {"username": "bWU=", "password": "c2VjcmV0"},
    }
    await stage.cluster.create(kinds.SECRET, secret)
    await stage.clock.advance(70)
    await stage.sync()
    assert await stage.reason(READY) == "True/Ready"
    assert (await stage.function("hello"))["spec"]["source"]["git"]["secretRef"] == {"name": "git"}


async def test_a_secret_of_another_namespace_is_not_written_into_functions(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": KEY.namespace, "name": "git"}}
    await stage.cluster.create(kinds.SECRET, secret)
    await stage.repository(secretRef={"name": "git"}, targetNamespace="elsewhere")
    await stage.sync()
    fn = await stage.cluster.get(kinds.LAMBDA_FUNCTION, Key("elsewhere", "hello"))
    assert "secretRef" not in fn["spec"]["source"]["git"]
    assert fn["metadata"]["labels"][meta.LABEL_REPOSITORY_NAMESPACE] == KEY.namespace


async def test_an_unsigned_commit_is_not_applied(stage: Stage) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": KEY.namespace, "name": "signers"},
        "data": {"allowed_signers": "eA=="},
    }
    await stage.cluster.create(kinds.SECRET, secret)
    signed = stage.checkout.push(URL, function_files("hello"))
    stage.checkout.signed.add(signed)
    await stage.repository(verify={"secretRef": {"name": "signers"}})
    await stage.sync()
    assert await stage.names() == ["hello"]
    unsigned = await stage.push_and_sync(function_files("hello", "world"))
    assert await stage.names() == ["hello"]
    assert await stage.reason(READY) == "False/Unverified"
    assert (await stage.repo()).status.observed_revision == f"main@{unsigned}"
    assert (await stage.repo()).status.applied_revision == f"main@{signed}"


async def test_last_sync_time_moves_only_with_something_else(stage: Stage) -> None:
    stage.checkout.push(URL, function_files("hello"))
    await stage.repository()
    await stage.sync()
    first = (await stage.repo()).status.last_sync_time
    await stage.clock.advance(600)
    await stage.sync()
    assert (await stage.repo()).status.last_sync_time == first
    await stage.push_and_sync(function_files("hello", code="x = 1\n"))
    assert (await stage.repo()).status.last_sync_time != first


async def test_plain_manifests_live_beside_function_directories(stage: Stage) -> None:
    manifest = (
        f"apiVersion: {meta.API_VERSION}\nkind: LambdaFunction\nmetadata: {{name: inline}}\n"
        "spec:\n  runtime: {language: nodejs}\n  source: {type: inline, inline: {code: 'exports.handler = 1'}}\n"
    )
    stage.checkout.push(URL, {**function_files("hello"), "functions/more.yaml": manifest})
    await stage.repository()
    await stage.sync()
    assert await stage.names() == ["hello", "inline"]
    assert (await stage.function("inline"))["spec"]["source"]["type"] == "inline"
    assert function_yaml() in function_files("hello").values()
