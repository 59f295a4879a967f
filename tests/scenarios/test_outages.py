"""RabbitMQ is away, the API server has a bad day, the process loses its Lease: what is kept, and what is told."""

from __future__ import annotations

import pytest

from knative_lambda.api import kinds
from knative_lambda.cluster.base import Conflict, TooManyRequests, Unavailable, WriteFenced
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.queue import Priority
from knative_lambda.reconcile.loop import reconcile
from tests import gen
from tests.scenarios.controller import HELLO, Stage

pytestmark = pytest.mark.scenario


async def test_events_wait_in_the_status_while_rabbitmq_is_away() -> None:
    stage = Stage()
    controller = stage.controller()
    stage.bus.disconnect()
    await stage.create()
    requeue = await controller.reconcile()
    waiting = (await stage.function()).status.outbox
    assert [event.type for event in waiting] == [
        "lambda.function.created",
        "lambda.build.started",
        "lambda.status.updated",
    ]
    assert requeue is not None
    assert requeue.priority is Priority.LOW
    stage.bus.connect()
    await controller.settle()
    assert [(event.id, event.type) for event in stage.bus.published] == [(one.id, one.type) for one in waiting]
    assert stage.bus.published[0].extensions == waiting[0].extensions
    assert stage.bus.published[0].subject == "tenant-1/hello"
    assert (await stage.function()).status.outbox == ()


async def test_waiting_for_rabbitmq_costs_no_status_writes() -> None:
    stage = Stage()
    controller = stage.controller()
    stage.bus.disconnect()
    await stage.create()
    await controller.reconcile()
    before = [what for what in controller.life.writes if what != "publish"]
    await controller.reconcile()
    await controller.reconcile()
    assert [what for what in controller.life.writes if what != "publish"] == before


async def test_event_whose_confirm_was_lost_is_sent_again_under_its_id() -> None:
    stage = Stage()
    controller = stage.controller()
    stage.bus.lose_confirms(1)
    await stage.create()
    await controller.settle()
    assert [event.type for event in stage.bus.published].count("lambda.function.created") == 2
    assert len(stage.told()["lambda.function.created"]) == 1


async def test_deleted_function_is_held_until_its_end_is_announced() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source(gen.image()))
    await controller.settle()
    stage.bus.disconnect()
    await stage.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)
    requeue = await controller.reconcile()
    assert requeue is not None
    assert (await stage.function()).status.phase == "Deleting"
    stage.bus.connect()
    await controller.reconcile()
    assert await stage.all(kinds.LAMBDA_FUNCTION) == []
    assert len(stage.told()["lambda.function.deleted"]) == 1


async def test_deletion_does_not_wait_for_rabbitmq_for_ever() -> None:
    clock = ManualClock()
    stage = Stage(clock)
    controller = stage.controller()
    await stage.create(gen.with_source(gen.image()))
    await controller.settle()
    stage.bus.disconnect()
    await stage.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)
    await controller.reconcile()
    await clock.advance(601)
    await controller.reconcile()
    assert await stage.all(kinds.LAMBDA_FUNCTION) == []
    await controller.recorder.drain()
    assert "EventsDropped" in {event["reason"] for event in await stage.all(kinds.EVENT)}


async def test_refusing_api_server_is_retried_with_what_it_asked_for() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    stage.cluster.fail_next("create", kinds.JOB, TooManyRequests("slow down", retry_after=7))
    with pytest.raises(TooManyRequests) as caught:
        await controller.reconcile()
    assert caught.value.retry_after == 7
    assert controller.life.writes == ["create Job"]
    assert stage.bus.published == []
    await controller.settle()
    assert await stage.condition() == ("Unknown", "Building")


async def test_failing_webhook_is_a_condition_and_is_retried() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source(gen.image()))
    stage.cluster.fail_next("apply", kinds.SERVICE, Unavailable("failed calling webhook webhook.serving.knative.dev"))
    with pytest.raises(Unavailable):
        await controller.reconcile()
    assert await stage.condition() == ("Unknown", "WriteFailed")
    fn = await stage.function()
    assert "failed calling webhook" in next(row.message for row in fn.status.conditions if row.type == "DeployReady")
    assert fn.status.service_status is None
    assert "lambda.service.created" not in stage.told()
    await controller.settle()
    assert await stage.condition("DeployReady") == ("True", "Deployed")
    assert "lambda.service.created" in stage.told()


async def test_lost_answer_to_a_created_job_makes_no_second_job() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    await controller.sync()
    stage.cluster.fail_next("create", kinds.JOB, Unavailable("connection reset"), after=True)
    with pytest.raises(Unavailable):
        await reconcile(HELLO, controller.world)
    await reconcile(HELLO, controller.world)
    assert len(await stage.all(kinds.JOB)) == 1
    assert controller.seen.reads == ["get Job"]
    assert await stage.condition() == ("Unknown", "Building")


async def test_status_that_cannot_be_written_is_written_by_the_next_pass_under_the_same_ids() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    stage.cluster.fail_next("patch_status", kinds.LAMBDA_FUNCTION, Unavailable("etcd leader changed"))
    with pytest.raises(Unavailable):
        await controller.reconcile()
    await controller.settle()
    assert all(len(ids) == 1 for ids in stage.told().values())
    assert await stage.condition() == ("Unknown", "Building")


async def test_finalizer_conflict_keeps_the_service_from_being_written_before_it() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create(gen.with_source(gen.image()))
    stage.cluster.fail_next("patch", kinds.LAMBDA_FUNCTION, Conflict("the object has been modified"))
    with pytest.raises(Conflict):
        await controller.reconcile()
    assert await stage.all(kinds.SERVICE) == []
    assert (await stage.function()).status.conditions == ()
    await controller.settle()
    assert len(await stage.all(kinds.SERVICE)) == 1


async def test_process_without_the_lease_says_and_writes_nothing() -> None:
    stage = Stage()
    controller = stage.controller()
    await stage.create()
    stage.cluster.fail_next("create", kinds.JOB, WriteFenced("this process does not lead"))
    with pytest.raises(WriteFenced):
        await controller.reconcile()
    assert controller.life.writes == ["create Job"]
    assert stage.bus.published == []


async def test_outbox_stays_within_its_limit_and_says_what_it_gave_up() -> None:
    stage = Stage()
    controller = stage.controller()
    stage.bus.disconnect()
    await stage.create()
    for number in range(30):
        await stage.change(source=gen.inline(f"def handler(event): return {number}\n"))
        await controller.reconcile()
    outbox = (await stage.function()).status.outbox
    assert len(outbox) == 64
    assert "lambda.status.updated" not in {event.type for event in outbox}
    assert outbox[-1].type == "lambda.build.started"
    await controller.recorder.drain()
    assert "EventsDropped" in {event["reason"] for event in await stage.all(kinds.EVENT)}
