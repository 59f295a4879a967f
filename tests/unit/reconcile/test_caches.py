"""Our own writes on top of the caches, what is settled, and whom a change wakes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.queue import Priority
from knative_lambda.machinery.store import Store
from knative_lambda.reconcile.freshness import ARRIVAL, BY_FUNCTION, Fresh
from knative_lambda.reconcile.handlers import Handlers, urgency
from knative_lambda.reconcile.report import difference
from knative_lambda.reconcile.settled import Settled, is_as_wanted
from knative_lambda.reconcile.world import by_function
from knative_lambda.resources import observed
from knative_lambda.resources.observed import FunctionSeen, JobSeen
from tests import gen
from tests.scenarios.controller import Stage

FN = gen.lambda_function()
JOB = gen.job(FN)


def _jobs(clock: ManualClock) -> tuple[Store[JobSeen], Fresh[JobSeen]]:
    store: Store[JobSeen] = Store({BY_FUNCTION: by_function})
    return store, Fresh(store, clock=clock)


def _at(version: str, uid: str = JOB.uid) -> JobSeen:
    return replace(JOB, resource_version=version, uid=uid)


async def test_own_write_is_seen_before_the_watch_shows_it() -> None:
    _, jobs = _jobs(ManualClock())
    jobs.record(_at("9"))
    assert jobs.get(JOB.key) == JOB
    assert jobs.of_function(FN.key) == [JOB]
    assert jobs.of_function(Key("other", "fn")) == []


@pytest.mark.parametrize(("stored", "wins"), [("8", "9"), ("9", "9"), ("10", "10")])
async def test_newer_of_store_and_own_write_wins(stored: str, wins: str) -> None:
    store, jobs = _jobs(ManualClock())
    store.put(JOB.key, _at(stored))
    jobs.record(_at("9"))
    found = jobs.get(JOB.key)
    assert found is not None
    assert found.resource_version == wins


async def test_own_write_that_never_arrives_is_forgotten() -> None:
    clock = ManualClock()
    _, jobs = _jobs(clock)
    jobs.record(_at("9"))
    await clock.advance(ARRIVAL + 1)
    assert jobs.get(JOB.key) is None
    assert jobs.of_function(FN.key) == []


async def test_another_object_under_the_same_name_is_never_hidden() -> None:
    store, jobs = _jobs(ManualClock())
    jobs.record(_at("9"))
    store.put(JOB.key, _at("5", uid="another"))
    found = jobs.get(JOB.key)
    assert found is not None
    assert found.uid == "another"


async def test_echo_is_recognised_once() -> None:
    _, jobs = _jobs(ManualClock())
    jobs.record(_at("9"))
    assert not jobs.is_echo(_at("8"))
    assert jobs.is_echo(_at("9"))
    assert not jobs.is_echo(_at("9"))


def test_settled_child_is_as_wanted_until_it_or_the_wish_changes() -> None:
    wanted, settled = gen.service_manifest(FN), Settled()
    odd = gen.service(FN, lambda raw: raw["spec"]["template"]["spec"].update(timeoutSeconds=1))
    assert not is_as_wanted(odd, wanted, settled)
    settled.remember(odd, wanted)
    assert is_as_wanted(odd, wanted, settled)
    other = gen.service(FN, lambda raw: raw["spec"]["template"]["spec"].update(timeoutSeconds=2))
    assert not is_as_wanted(other, wanted, settled)
    settled.forget(odd.uid)
    assert not is_as_wanted(odd, wanted, settled)


def test_missing_label_is_drift() -> None:
    bare = gen.service(FN, lambda raw: raw["metadata"]["labels"].pop("app.kubernetes.io/managed-by"))
    assert not is_as_wanted(bare, gen.service_manifest(FN), Settled())


# ---- handlers ----


class Woken:
    """Handlers over an empty world, and the keys that they enqueued."""

    def __init__(self) -> None:
        self.keys: list[tuple[Key, Priority]] = []
        controller = Stage(ManualClock()).controller()
        self.world = controller.world
        self.functions: Store[FunctionSeen] = controller.informers[kinds.LAMBDA_FUNCTION].store
        self.handlers = Handlers(self.world, self.functions, lambda key, priority: self.keys.append((key, priority)))


async def test_job_that_ended_wakes_its_function() -> None:
    woken = Woken()
    woken.handlers.job(JOB.key, JOB, gen.job(FN, gen.complete()))
    assert woken.keys == [(FN.key, Priority.NORMAL)]


async def test_change_that_decide_does_not_read_wakes_nobody() -> None:
    woken = Woken()
    woken.handlers.job(JOB.key, JOB, _at("77"))
    assert woken.keys == []


async def test_echo_of_our_own_write_wakes_nobody() -> None:
    woken = Woken()
    woken.world.jobs.record(_at("9"))
    woken.handlers.job(JOB.key, None, _at("9"))
    assert woken.keys == []


async def test_deleted_child_wakes_its_function_and_is_forgotten() -> None:
    woken = Woken()
    service = gen.service(FN)
    woken.world.services.record(service)
    woken.handlers.service(service.key, service, None)
    assert woken.keys == [(FN.key, Priority.NORMAL)]
    assert woken.world.services.get(service.key) is None


async def test_child_whose_label_was_taken_wakes_both_functions() -> None:
    woken = Woken()
    moved = replace(JOB, function=Key(gen.NAMESPACE, "other"))
    woken.handlers.job(JOB.key, JOB, moved)
    assert {key for key, _ in woken.keys} == {FN.key, moved.function}


async def test_stranger_under_the_services_name_wakes_the_function() -> None:
    woken = Woken()
    foreign = observed.project_service({"metadata": {"name": "hello", "namespace": gen.NAMESPACE, "uid": "x"}})
    woken.handlers.service(foreign.key, None, foreign)
    assert woken.keys == [(FN.key, Priority.NORMAL)]


async def test_broker_wakes_the_functions_that_name_it() -> None:
    woken = Woken()
    for name, broker in (("a", "default"), ("b", "other")):
        seen = observed.project_function(gen.raw_function(name, gen.with_trigger(broker)))
        woken.functions.put(seen.key, seen)
    before, after = gen.broker(is_ready=False)["default"], gen.broker()["default"]
    woken.handlers.broker(after.key, before, after)
    woken.handlers.broker(after.key, after, after)
    assert woken.keys == [(Key(gen.NAMESPACE, "a"), Priority.NORMAL)]


async def test_broker_of_ours_that_is_deleted_at_once_is_forgotten() -> None:
    woken = Woken()
    made = gen.broker()["default"]
    woken.world.brokers.record(made)
    woken.handlers.broker(made.key, made, None)
    assert woken.world.brokers.get(made.key) is None


async def test_echo_of_a_status_write_wakes_nobody() -> None:
    woken = Woken()
    seen = observed.project_function(gen.raw_function())
    woken.world.functions.record(seen)
    woken.handlers.function(seen.key, seen, seen)
    assert woken.keys == []


@pytest.mark.parametrize(
    ("parts", "is_new", "priority"),
    [
        ((), True, Priority.HIGH),
        ((gen.with_status(observedGeneration=1),), True, Priority.LOW),
        ((gen.with_status(observedGeneration=1),), False, Priority.NORMAL),
        ((gen.with_status(observedGeneration=1), gen.deleted()), False, Priority.HIGH),
    ],
)
def test_people_go_first_and_lists_after_a_restart_last(
    parts: tuple[gen.Part, ...], is_new: bool, priority: Priority
) -> None:
    seen = observed.project_function(gen.raw_function("hello", *parts))
    assert urgency(None if is_new else seen, seen) is priority


# ---- the status patch ----


def test_patch_holds_only_what_changed_and_nulls_what_is_gone() -> None:
    old = {"a": 1, "b": {"x": 1, "y": 2}, "gone": 1, "list": [1]}
    new = {"a": 1, "b": {"x": 1, "y": 3}, "list": [1, 2], "new": {"z": 1}}
    assert difference(old, new) == {"b": {"y": 3}, "gone": None, "list": [1, 2], "new": {"z": 1}}
    assert difference(new, new) == {}
