"""A function's life over a memory cluster, with the machinery as in production."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import replace

import pytest

from knative_lambda.api import crd, kinds, meta
from knative_lambda.api.conditions import Reason
from knative_lambda.api.meta import FIELD_MANAGER, Kind
from knative_lambda.cluster.base import ClusterError, Forbidden, NotFound, Object, Unavailable
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.reconcile.loop import reconcile
from knative_lambda.resources import names
from knative_lambda.sources.base import SourceError
from tests import gen
from tests.scenarios.controller import HELLO, KNATIVE, Stage, until

pytestmark = pytest.mark.scenario


async def _is_ready(stage: Stage) -> bool:
    return await stage.condition() == ("True", "Ready")


async def _goes_ready(stage: Stage) -> None:
    async def has_job() -> bool:
        return bool(await stage.all(kinds.JOB))

    async def has_service() -> bool:
        return bool(await stage.all(kinds.SERVICE))

    await until(has_job)
    await stage.finish_jobs()
    await until(has_service)
    await stage.serve()

    async def ready() -> bool:
        return await _is_ready(stage)

    await until(ready)


async def test_inline_function_is_ready_after_six_writes_and_no_read() -> None:
    stage = Stage()
    async with stage.controller().running() as controller:
        await stage.create()
        await _goes_ready(stage)
        writes = [what for what in controller.life.writes if what != "publish"]
    assert writes == ["create Job", "status", "finalizers", "apply Service", "status", "status"]
    assert controller.seen.reads == []
    assert controller.sources.asked == 0


async def test_function_that_git_made_is_ready_after_five_writes() -> None:
    stage = Stage()
    async with stage.controller().running() as controller:
        await stage.create(gen.held(), gen.with_source(gen.git()))
        await _goes_ready(stage)
        writes = [what for what in controller.life.writes if what != "publish"]
    assert writes == ["create Job", "status", "apply Service", "status", "status"]


async def test_ready_function_costs_nothing_when_the_controller_starts_again() -> None:
    stage = Stage()
    async with stage.controller().running():
        await stage.create()
        await _goes_ready(stage)
    again = stage.controller()
    async with again.running():
        await again.settle()
    assert again.life.writes == []
    assert again.seen.reads == []


async def test_events_tell_the_story_in_order_with_their_causes() -> None:
    stage = Stage()
    async with stage.controller().running():
        await stage.create()
        await _goes_ready(stage)
    events = stage.bus.published
    assert [event.type for event in events] == [
        "lambda.function.created",
        "lambda.build.started",
        "lambda.status.updated",
        "lambda.build.completed",
        "lambda.service.created",
        "lambda.status.updated",
        "lambda.status.updated",
    ]
    by_type = {event.type: event for event in events}
    started, completed = by_type["lambda.build.started"], by_type["lambda.build.completed"]
    assert started.extensions["causationid"] == by_type["lambda.function.created"].id
    assert completed.extensions["causationid"] == started.id
    assert by_type["lambda.service.created"].extensions["causationid"] == completed.id
    assert {event.extensions["correlationid"] for event in events} == {events[0].extensions["correlationid"]}
    assert [event.data["phase"] for event in events if event.type == "lambda.status.updated"] == [
        "Building",
        "Deploying",
        "Ready",
    ]
    assert completed.data["image_uri"] == f"localhost:5001/tenant-1/hello@{gen.IMAGE_DIGEST}"
    assert events[0].subject == "tenant-1/hello"


async def test_kubernetes_events_tell_the_story() -> None:
    stage = Stage()
    async with stage.controller().running() as controller:
        await stage.create()
        await _goes_ready(stage)
        await controller.recorder.drain()
    posted = sorted(await stage.all(kinds.EVENT), key=lambda event: str(event["eventTime"]))
    told = [(event["type"], event["reason"]) for event in posted]
    assert told == [("Normal", "Building"), ("Normal", "Deploying"), ("Normal", "Ready")]


async def test_hand_edit_of_the_service_is_set_back_with_one_write() -> None:
    stage = Stage()
    async with stage.controller().running() as controller:
        await stage.create()
        await _goes_ready(stage)
        before = len(controller.life.writes)
        await _edit_service(stage, "evil.example/x:1")

        async def repaired() -> bool:
            return await _image_of_service(stage) == f"localhost:5001/tenant-1/hello@{gen.IMAGE_DIGEST}"

        await until(repaired)
        await stage.serve()

        async def ready() -> bool:
            return await _is_ready(stage)

        await until(ready)
        assert [what for what in controller.life.writes[before:] if what.startswith("apply")] == ["apply Service"]


async def _edit_service(stage: Stage, image: str) -> None:
    service = await stage.cluster.get(kinds.SERVICE, HELLO)
    service["spec"]["template"]["spec"]["containers"][0]["image"] = image
    await stage.cluster.replace(kinds.SERVICE, service)


async def _image_of_service(stage: Stage) -> str:
    service = await stage.cluster.get(kinds.SERVICE, HELLO)
    image: str = service["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


class NormalisingCluster(MemoryCluster):
    """An admission webhook that writes a field of ours otherwise, whatever we say."""

    async def apply(self, kind: Kind, obj: Object, *, manager: str = FIELD_MANAGER, force: bool = True) -> Object:
        sent = deepcopy(obj)
        if kind == kinds.SERVICE:
            sent["spec"]["template"]["spec"]["timeoutSeconds"] = 1
        return await super().apply(kind, sent, manager=manager, force=force)


async def test_field_that_a_webhook_rewrites_is_not_fought_over() -> None:
    stage = Stage()
    stage.cluster = NormalisingCluster(clock=stage.clock, definitions=crd.definitions(), kinds=KNATIVE)
    async with stage.controller().running() as controller:
        await stage.create(gen.with_source(gen.image()))

        async def written() -> bool:
            return bool(await stage.all(kinds.SERVICE))

        await until(written)
        await stage.serve()

        async def ready() -> bool:
            return await _is_ready(stage)

        await until(ready)
        await stage.annotate(meta.ANNOTATION_RECONCILE, "now")
        await asyncio.sleep(0.1)
    assert controller.life.writes.count("apply Service") == 1
    again = stage.controller()
    await again.settle()
    assert again.life.writes.count("apply Service") == 1


async def test_deleted_service_comes_back() -> None:
    stage = Stage()
    async with stage.controller().running():
        await stage.create()
        await _goes_ready(stage)
        await stage.cluster.delete(kinds.SERVICE, HELLO)

        async def back() -> bool:
            return bool(await stage.all(kinds.SERVICE))

        await until(back)
        assert await _image_of_service(stage) == f"localhost:5001/tenant-1/hello@{gen.IMAGE_DIGEST}"


async def test_broker_that_comes_later_wakes_its_functions() -> None:
    stage = Stage()
    async with stage.controller().running():
        await stage.create(gen.with_trigger("late", type="order.placed"))

        async def waits() -> bool:
            return bool((await stage.function()).status.conditions)

        await until(waits)
        assert await stage.condition("BrokerReady") == ("False", "BrokerNotReady")
        await stage.broker("late")

        async def found() -> bool:
            return await stage.condition("BrokerReady") == ("True", "BrokerReady")

        await until(found)
        await _goes_ready(stage)


async def test_new_source_is_built_while_the_old_image_runs() -> None:
    stage = Stage()
    async with stage.controller().running():
        await stage.create()
        await _goes_ready(stage)
        await stage.change(source=gen.inline("def handler(event): return 2\n"))

        async def building() -> bool:
            return await stage.condition("BuildReady") == ("Unknown", "Building")

        await until(building)
        assert await stage.condition("ServiceReady") == ("True", "ServiceReady")
        assert await stage.condition("Ready") == ("Unknown", "Building")
        await stage.finish_jobs(gen.OTHER_DIGEST)

        async def deployed() -> bool:
            return await _image_of_service(stage) == f"localhost:5001/tenant-1/hello@{gen.OTHER_DIGEST}"

        await until(deployed)
        await stage.serve()

        async def ready() -> bool:
            return await _is_ready(stage)

        await until(ready)
    types = [event.type for event in stage.bus.published]
    assert types.count("lambda.function.updated") == 1
    assert types.count("lambda.service.updated") == 1
    assert "lambda.build.cancelled" not in types


async def test_newer_source_cancels_the_build_of_the_older_one() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    await controller.settle()
    await stage.change(source=gen.inline("def handler(event): return 2\n"))
    await controller.settle()
    assert [job["metadata"]["name"] for job in await stage.all(kinds.JOB)] == [(await stage.build()).job_name]
    assert len(stage.told()["lambda.build.cancelled"]) == 1
    assert len(stage.told()["lambda.build.started"]) == 2


async def test_failed_build_is_reported_once_and_built_again_on_request() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    await controller.settle()
    await stage.fail_jobs()
    await controller.settle()
    assert await stage.condition() == ("False", "BuildFailed")
    assert len(stage.told()["lambda.build.failed"]) == 1
    await stage.annotate(meta.ANNOTATION_REBUILD, "again")
    await controller.settle()
    assert await stage.condition() == ("Unknown", "Building")
    await stage.finish_jobs()
    await controller.settle()
    await stage.serve()
    await controller.settle()
    assert await stage.condition() == ("True", "Ready")
    assert (await stage.build()).error == ""


async def test_build_timeout_has_its_own_event() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    await controller.settle()
    await stage.fail_jobs(reason="DeadlineExceeded")
    await controller.settle()
    assert await stage.condition() == ("False", "BuildTimeout")
    assert "lambda.build.timeout" in stage.told()
    assert "lambda.build.failed" not in stage.told()


async def test_deleted_function_leaves_nothing_behind_and_says_so() -> None:
    stage = Stage()
    async with stage.controller().running():
        await stage.broker()
        await stage.create(gen.with_trigger("default", type="order.placed"))
        await _goes_ready(stage)
        await stage.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)

        async def gone() -> bool:
            return not await stage.all(kinds.LAMBDA_FUNCTION)

        await until(gone)
    for kind in (kinds.JOB, kinds.POD, kinds.SERVICE, kinds.TRIGGER):
        assert await stage.all(kind) == []
    assert len(stage.told()["lambda.function.deleted"]) == 1
    assert len(stage.told()["lambda.service.deleted"]) == 1


async def test_branch_is_asked_once_per_generation_with_the_functions_secret() -> None:
    stage = Stage()
    controller = stage.controller()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "deploy", "namespace": gen.NAMESPACE},
        "data": {"username": "bWU=", "password": "aHVudGVyMg=="},
    }
    await stage.cluster.create(kinds.SECRET, secret)
    await stage.create(gen.with_source(gen.branch("main", secretRef={"name": "deploy"})))
    await controller.settle()
    await stage.finish_jobs()
    await controller.settle()
    assert controller.sources.asked == 1
    assert controller.sources.given[0].get("password") == "hunter2"
    assert controller.seen.reads == ["get Secret"]


async def test_rebuild_looks_at_the_branch_again() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source(gen.branch("main")))
    await controller.settle()
    await stage.finish_jobs()
    await controller.settle()
    controller.sources.push(gen.URL, "f" * 40, ref="main")
    await stage.annotate(meta.ANNOTATION_REBUILD, "again")
    await controller.settle()
    source = (await stage.function()).status.source_status
    assert source is not None
    assert source.revision == "f" * 40
    assert controller.sources.asked == 2


async def test_missing_secret_stalls_and_is_looked_for_again() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source(gen.branch("main", secretRef={"name": "absent"})))
    requeue = await controller.reconcile()
    assert await stage.condition() == ("False", "SecretNotFound")
    assert requeue is not None
    assert requeue.after >= 600


async def test_secret_that_holds_no_text_stalls_without_showing_it() -> None:
    stage = Stage()
    controller = stage.controller()
    metadata = {"name": "deploy", "namespace": gen.NAMESPACE}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"password": "/////w=="}}
    await stage.cluster.create(kinds.SECRET, secret)
    await stage.create(gen.with_source(gen.branch("main", secretRef={"name": "deploy"})))
    await controller.reconcile()
    assert await stage.condition() == ("False", "AuthenticationFailed")


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        (Forbidden("secrets is forbidden"), ("False", "SecretNotFound")),
        (Unavailable("etcd is away"), ("Unknown", "Unreachable")),
    ],
)
async def test_secret_that_cannot_be_read_is_a_condition(error: ClusterError, condition: tuple[str, str]) -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source(gen.branch("main", secretRef={"name": "deploy"})))
    stage.cluster.fail_next("get", kinds.SECRET, error)
    await controller.reconcile()
    assert await stage.condition() == condition


@pytest.mark.parametrize("kind", ["minio", "s3", "gcs"])
async def test_source_that_no_release_fetches_yet_stalls(kind: str) -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source({"type": kind, kind: {"bucket": "code", "key": "hello.zip"}}))
    await controller.reconcile()
    assert await stage.condition() == ("False", "SourceUnsupported")
    assert await stage.all(kinds.JOB) == []


async def test_object_that_this_release_cannot_read_says_so_and_can_be_deleted() -> None:
    stage = Stage()
    stage.cluster = MemoryCluster(clock=stage.clock, kinds=(*KNATIVE, kinds.LAMBDA_FUNCTION))
    controller = stage.controller()
    await stage.create(gen.held(), gen.with_spec(source={"type": "git"}))
    await controller.reconcile()
    raw = await stage.cluster.get(kinds.LAMBDA_FUNCTION, HELLO)
    ready = next(row for row in raw["status"]["conditions"] if row["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "spec.source" in ready["message"]
    await stage.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)
    await controller.reconcile()
    assert await stage.all(kinds.LAMBDA_FUNCTION) == []
    assert "lambda.function.deleted" in stage.told()


async def test_source_that_is_away_keeps_what_runs() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    await controller.settle()
    await stage.finish_jobs()
    await controller.settle()
    await stage.serve()
    await controller.settle()
    controller.sources.fail(SourceError(Reason.UNREACHABLE, "no route to host", retry=True))
    await stage.change(source={**gen.branch(), "inline": None})
    requeue = await controller.reconcile()
    assert requeue is not None
    assert await stage.condition() == ("Unknown", "Unreachable")
    assert await stage.condition("ServiceReady") == ("True", "ServiceReady")
    assert len(await stage.all(kinds.SERVICE)) == 1


async def test_builds_in_another_namespace_go_with_their_function() -> None:
    settings = replace(gen.SETTINGS, build=replace(gen.SETTINGS.build, namespace="builds"))
    stage = Stage()
    controller = stage.controller(settings=settings)
    await stage.create()
    await controller.settle()
    assert [job["metadata"]["namespace"] for job in await stage.all(kinds.JOB)] == ["builds"]
    await stage.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)
    await controller.settle()
    assert await stage.all(kinds.JOB) == []
    assert await stage.all(kinds.LAMBDA_FUNCTION) == []


async def test_service_of_a_stranger_is_never_taken_over_even_unseen() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source(gen.image()))
    await controller.sync()
    foreign = {
        "apiVersion": kinds.SERVICE.api_version,
        "kind": "Service",
        "metadata": {"name": "hello", "namespace": gen.NAMESPACE},
        "spec": {"template": {"spec": {"containers": [{"image": "theirs.example/app:1"}]}}},
    }
    await stage.cluster.apply(kinds.SERVICE, foreign, manager="somebody")
    await reconcile(HELLO, controller.world)
    assert await stage.condition("DeployReady") == ("False", "NotOwned")
    assert await _image_of_service(stage) == "theirs.example/app:1"
    assert (await stage.function()).status.image == ""


async def test_job_name_that_is_taken_is_a_condition() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    fn = await stage.function()
    taken = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": names.kaniko_job(fn, gen.build_digest(fn)), "namespace": gen.NAMESPACE},
        "spec": {},
    }
    await stage.cluster.create(kinds.JOB, taken)
    await controller.reconcile()
    assert await stage.condition("BuildReady") == ("False", "NotOwned")
    assert "lambda.build.started" not in stage.told()


async def test_what_the_server_refuses_is_said_in_its_words() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    stage.cluster.fail_next("create", kinds.JOB, Forbidden("exceeded quota: builds, used: count/jobs.batch=20"))
    requeue = await controller.reconcile()
    assert await stage.condition() == ("False", "Refused")
    assert requeue is not None
    assert requeue.after >= 60
    fn = await stage.function()
    assert "exceeded quota" in next(row.message for row in fn.status.conditions if row.type == "BuildReady")
    assert fn.status.build_status is None
    await controller.settle()
    assert await stage.condition() == ("Unknown", "Building")


async def test_missing_knative_is_a_condition_not_a_crash() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source(gen.image()))
    await controller.sync()
    stage.cluster.uninstall(kinds.SERVICE)
    await reconcile(HELLO, controller.world)
    assert await stage.condition() == ("False", "KindNotInstalled")


async def test_function_that_vanishes_under_our_hands_is_no_error() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    stage.cluster.fail_next("patch_status", kinds.LAMBDA_FUNCTION, NotFound("gone"))
    assert await controller.reconcile() is None


async def test_two_functions_of_one_name_in_two_lives_never_mix() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    await controller.settle()
    first = await stage.build()
    await stage.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)
    await stage.create()
    await controller.settle()
    second = await stage.build()
    assert first.job_name != second.job_name
    assert first.digest == second.digest
