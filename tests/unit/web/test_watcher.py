"""What happened, told from the old and the new state of objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from knative_lambda.api.conditions import ConditionType, Reason, Status
from knative_lambda.api.meta import Key
from knative_lambda.resources.observed import FunctionSeen, project_function
from tests import gen

from .desk import Desk

KEY = Key(gen.NAMESPACE, "hello")
OPERATIONS = "operator_crd_operations_total"
TOOK = "operator_crd_operation_duration_seconds"


def seen(*parts: gen.Part, generation: int = 1, uid: str = "uid-1") -> FunctionSeen:
    raw = gen.raw_function("hello", *parts, generation=generation)
    raw["metadata"]["uid"] = uid
    return project_function(raw)


def told(generation: int = 1, phase: str = "Ready", **status: Any) -> gen.Part:
    return gen.with_status(observedGeneration=generation, phase=phase, **status)


def waiting(*types: str) -> gen.Part:
    """Events in the outbox."""
    return gen.with_status(outbox=[{"id": str(n), "type": one, "data": "{}"} for n, one in enumerate(types)])


async def test_a_new_function_is_a_create_that_ends_when_the_status_speaks_of_it() -> None:
    desk = Desk()
    fresh = seen()
    desk.watcher.function(KEY, None, fresh)
    assert await desk.value(OPERATIONS, operation="create", function_name="hello", namespace=gen.NAMESPACE) == 1
    assert await desk.value(f"{TOOK}_count", operation="create") is None
    await desk.clock.advance(1)
    desk.watcher.function(KEY, fresh, seen(told(phase="Building")))
    assert await desk.value(f"{TOOK}_count", operation="create") == 1
    assert await desk.value(f"{TOOK}_sum", operation="create") == pytest.approx(5, abs=0.1)  # two looks, 2 s each


async def test_a_changed_spec_is_an_update_and_a_changed_status_is_none() -> None:
    desk = Desk()
    old = seen(told())
    desk.synced = False
    desk.watcher.function(KEY, None, old)
    desk.synced = True
    newer = seen(told(), generation=2)
    desk.watcher.function(KEY, old, newer)
    settled = seen(told(2), generation=2)
    desk.watcher.function(KEY, newer, settled)
    desk.watcher.function(KEY, settled, seen(told(2, phase="Failed"), generation=2))
    assert [(labels["operation"], value) for labels, value in await desk.samples(OPERATIONS)] == [("update", 1)]
    assert await desk.value(f"{TOOK}_count", operation="update") == 1


async def test_a_deletion_is_counted_once_when_the_function_is_gone() -> None:
    desk = Desk()
    desk.synced = False
    old = seen(told(), gen.held())
    desk.watcher.function(KEY, None, old)
    desk.synced = True
    going = seen(told(), gen.held(), gen.deleted(), generation=2)
    desk.watcher.function(KEY, old, going)
    assert await desk.value(OPERATIONS, operation="delete") is None
    await desk.clock.advance(5)
    desk.watcher.function(KEY, going, None)
    assert await desk.value(OPERATIONS, operation="delete") == 1
    assert await desk.value(f"{TOOK}_sum", operation="delete") == 7
    assert await desk.value(OPERATIONS, operation="update") is None


async def test_what_the_first_list_holds_has_not_just_happened() -> None:
    desk = Desk()
    desk.synced = False
    desk.watcher.function(KEY, None, seen(told()))
    desk.watcher.job(KEY, None, gen.job(gen.lambda_function(), gen.complete()))
    desk.synced = True
    assert await desk.samples(OPERATIONS) == []
    assert await desk.samples("operator_build_jobs_total") == []


async def test_a_replica_that_stands_by_counts_nothing_and_knows_the_phase_when_it_takes_over() -> None:
    desk = Desk()
    desk.leads = False
    desk.watcher.function(KEY, None, seen(told(phase="Building")))
    desk.watcher.job(KEY, None, gen.job(gen.lambda_function(), gen.complete()))
    assert await desk.samples(OPERATIONS) == []
    assert await desk.samples("operator_build_jobs_total") == []
    desk.leads = True
    desk.reconcile(KEY)
    assert await desk.value("operator_reconcile_total", phase="Building", result="success") == 1


@pytest.mark.parametrize(
    ("result", "word"),
    [
        ("success", "success"),
        ("requeue", "success"),
        ("conflict", "failure"),
        ("throttled", "failure"),
        ("timeout", "failure"),
        ("error", "failure"),
    ],
)
async def test_the_result_of_a_reconcile_is_success_or_failure(result: str, word: str) -> None:
    desk = Desk()
    desk.watcher.function(KEY, None, seen())
    desk.reconcile(KEY, result, seconds=3)
    [(labels, value)] = await desk.samples("operator_reconcile_total")
    assert (labels["result"], labels["phase"], value) == (word, "Pending", 1)
    assert await desk.value("operator_reconcile_duration_seconds_bucket", le="5.0") == 1
    assert await desk.value("operator_reconcile_duration_seconds_bucket", le="2.0") == 0


async def test_a_reconcile_that_the_end_of_the_process_cut_off_is_not_counted() -> None:
    desk = Desk()
    desk.watcher.function(KEY, None, seen())
    desk.reconcile(KEY, "cancelled", seconds=0)
    assert await desk.samples("operator_reconcile_total") == []


async def test_a_reconcile_of_a_function_that_is_gone_ran_while_it_was_deleted() -> None:
    desk = Desk()
    desk.watcher.function(KEY, None, seen())
    desk.watcher.function(KEY, seen(), None)
    desk.reconcile(KEY)
    assert await desk.value("operator_reconcile_total", phase="Deleting", function_name="hello") == 1


async def test_a_phase_that_a_stranger_wrote_is_no_label() -> None:
    desk = Desk()
    desk.watcher.function(KEY, None, seen(told(phase="x" * 50)))
    desk.reconcile(KEY)
    assert await desk.value("operator_reconcile_total", phase="Pending") == 1


@pytest.mark.parametrize(("end", "word"), [(gen.complete(), "success"), (gen.failed(), "failure")])
async def test_a_build_is_counted_once_when_its_job_ends(end: gen.Part, word: str) -> None:
    desk = Desk()
    fn = gen.lambda_function()
    desk.watcher.function(KEY, None, seen())
    running, ended = gen.job(fn), gen.job(fn, end, ended=0)
    desk.watcher.job(running.key, None, running)
    desk.watcher.job(running.key, running, ended)
    desk.watcher.job(running.key, ended, replace(ended, resource_version="10"))
    desk.watcher.job(running.key, ended, None)
    assert await desk.value("operator_build_jobs_total", function_name="hello", result=word) == 1
    assert len(await desk.samples("operator_build_jobs_total")) == 1
    assert await desk.value("operator_build_duration_seconds_sum") == 60, "from creation to end, as the server says"


async def test_a_build_that_was_given_up_is_no_result() -> None:
    desk = Desk()
    running = gen.job(gen.lambda_function())
    desk.watcher.job(running.key, None, running)
    desk.watcher.job(running.key, running, None)
    assert await desk.samples("operator_build_jobs_total") == []


async def test_a_service_is_created_when_it_is_ready_for_the_first_time() -> None:
    desk = Desk()
    fn = gen.lambda_function()
    desk.watcher.function(KEY, None, seen())
    new = gen.service(fn)
    ready, failing = gen.service(fn, gen.service_ready()), gen.service(fn, gen.service_failed())
    desk.watcher.service(KEY, None, new)
    await desk.clock.advance(4)
    desk.watcher.service(KEY, new, ready)
    await desk.clock.advance(4)
    desk.watcher.service(KEY, ready, failing)
    desk.watcher.service(KEY, failing, ready)
    assert await desk.value("operator_service_creation_duration_seconds_count", function_name="hello") == 1
    assert await desk.value("operator_service_creation_duration_seconds_sum", function_name="hello") == 4


async def test_a_strangers_service_is_none_of_ours() -> None:
    desk = Desk()
    fn = gen.lambda_function()
    new, ready = gen.service(fn, gen.stranger()), gen.service(fn, gen.stranger(), gen.service_ready())
    desk.watcher.service(KEY, None, new)
    desk.watcher.service(KEY, new, ready)
    assert await desk.samples("operator_service_creation_duration_seconds_count") == []


async def test_the_outbox_is_summed_up_by_type() -> None:
    desk = Desk()
    first, second = seen(waiting("lambda.build.started", "lambda.build.started")), seen(waiting("lambda.build.failed"))
    desk.watcher.function(KEY, None, first)
    assert await desk.value("operator_event_queue_depth", event_type="lambda.build.started") == 2
    desk.watcher.function(KEY, first, second)
    assert await desk.value("operator_event_queue_depth", event_type="lambda.build.started") == 0
    assert await desk.value("operator_event_queue_depth", event_type="lambda.build.failed") == 1
    desk.watcher.function(KEY, second, None)
    assert await desk.value("operator_event_queue_depth", event_type="lambda.build.failed") == 0


async def test_a_function_made_anew_under_its_name_is_another_one() -> None:
    desk = Desk()
    old = seen(told(), waiting("lambda.build.failed"))
    desk.watcher.function(KEY, None, old)
    desk.watcher.function(KEY, old, seen(uid="uid-2"))
    assert await desk.value(OPERATIONS, operation="create") == 2
    assert await desk.value(OPERATIONS, operation="delete") == 1
    assert await desk.value("operator_event_queue_depth", event_type="lambda.build.failed") == 0


@pytest.mark.parametrize("outbox", ["text", [1, {"kind": "x"}], {"type": "y"}])
async def test_a_status_that_makes_no_sense_hurts_nobody(outbox: Any) -> None:
    desk = Desk()
    desk.watcher.function(KEY, None, seen(gen.with_status(outbox=outbox, phase=["Ready"])))
    assert desk.watcher.phase(KEY) == "Pending"
    assert desk.watcher.outbox.total() == 0


def with_queue(status: Status, reason: Reason) -> gen.Part:
    return gen.with_condition(ConditionType.DLQ_READY, status, reason)


async def test_functions_with_a_dead_letter_queue_are_those_whose_status_says_so() -> None:
    desk = Desk()
    there = seen(with_queue(Status.TRUE, Reason.DLQ_READY))
    desk.watcher.function(KEY, None, there)
    assert desk.watcher.with_queue == {KEY}
    refused = seen(with_queue(Status.FALSE, Reason.DLQ_REFUSED))
    desk.watcher.function(KEY, there, refused)
    assert desk.watcher.with_queue == set()
    desk.watcher.function(KEY, refused, seen(with_queue(Status.TRUE, Reason.NO_TRIGGERS)))
    assert desk.watcher.with_queue == set()
    desk.watcher.function(KEY, refused, there)
    desk.watcher.function(KEY, there, None)
    assert desk.watcher.with_queue == set()


@pytest.mark.parametrize("rows", ["text", {"type": "DLQReady"}, [7, None, {"status": "True"}]])
async def test_conditions_of_any_shape_are_survived(rows: Any) -> None:
    desk = Desk()
    desk.watcher.function(KEY, None, seen(gen.with_status(conditions=rows)))
    assert desk.watcher.with_queue == set()
