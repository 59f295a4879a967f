"""What a function says of its dead-letter queue, and how the topology operator is asked for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from knative_lambda.api import kinds
from knative_lambda.api.conditions import ConditionType, Reason, Status, find
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.events import dead_letters
from knative_lambda.events.dead_letters import QueueState
from knative_lambda.kit.clock import SystemClock
from knative_lambda.reconcile.act import Outcome
from knative_lambda.reconcile.conclude import conclude
from knative_lambda.reconcile.decide import decide
from knative_lambda.reconcile.plan import Apply, Stall, Wait
from knative_lambda.reconcile.snapshot import Snapshot
from knative_lambda.reconcile.topology import TopologyQueues
from knative_lambda.resources import names
from knative_lambda.resources.dead_letter import Topology
from knative_lambda.resources.trigger import DeadLetterSink
from tests import gen

pytestmark = pytest.mark.scenario

SETTINGS = replace(gen.SETTINGS, dead_letters=DeadLetterSink("http://operator.system.svc:8080"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS = Key("shop", "orders")
TOPOLOGY = Topology("system", connection_secret="rabbitmq-connection")
RABBIT_KINDS = (kinds.POLICY, kinds.EXCHANGE, kinds.QUEUE, kinds.BINDING)
REFUSED = dead_letters.refused("PRECONDITION_FAILED - inequivalent arg")


def says(queue: QueueState | None, *parts: gen.Part) -> tuple[Status, str, str] | None:
    seen = Snapshot(gen.lambda_function("hello", *parts), now=NOW, dead_letters=queue)
    plan = decide(seen, SETTINGS)
    found = find(conclude(seen, plan, Outcome()).conditions, ConditionType.DLQ_READY)
    return (found.status, found.reason, found.message) if found else None


@pytest.mark.parametrize(
    ("queue", "told"),
    [
        (dead_letters.READY, (Status.TRUE, Reason.DLQ_READY, "")),
        (dead_letters.awaited("RabbitMQ is away"), (Status.UNKNOWN, Reason.DLQ_NOT_READY, "RabbitMQ is away")),
        (REFUSED, (Status.FALSE, Reason.DLQ_REFUSED, "PRECONDITION_FAILED - inequivalent arg")),
    ],
)
def test_condition_says_what_is_known_of_the_queue(queue: QueueState, told: tuple[Status, str, str]) -> None:
    assert says(queue, gen.with_trigger()) == told


def test_function_without_triggers_needs_no_queue() -> None:
    assert says(None) == (Status.TRUE, Reason.NO_TRIGGERS, "")


def test_refused_queue_is_looked_at_again_and_keeps_no_build_waiting() -> None:
    seen = Snapshot(gen.lambda_function("hello", gen.with_trigger()), now=NOW, dead_letters=REFUSED)
    plan = decide(seen, SETTINGS)
    [verdict] = [one for one in plan.verdicts if isinstance(one, Stall)]
    assert verdict.after == 60
    waiting = replace(seen, dead_letters=dead_letters.awaited("away"))
    afters = [one.after for one in decide(waiting, SETTINGS).verdicts if isinstance(one, Wait)]
    assert 5.0 in afters


def test_nothing_is_said_where_dead_letters_are_switched_off() -> None:
    seen = Snapshot(gen.lambda_function("hello", gen.with_trigger()), now=NOW)
    status = conclude(seen, decide(seen, gen.SETTINGS), Outcome())
    assert find(status.conditions, ConditionType.DLQ_READY) is None


def test_no_topology_object_is_a_child_of_the_function() -> None:
    seen = Snapshot(gen.lambda_function("hello", gen.with_trigger()), now=NOW, dead_letters=dead_letters.READY)
    applied = [write.kind for write in decide(seen, SETTINGS).writes if isinstance(write, Apply)]
    assert not set(applied) & set(RABBIT_KINDS)


# ---- the topology operator, played by hand ----


class Desk:
    """A cluster with the operator's kinds, and the queues of ours that it is asked for."""

    def __init__(self, *installed: Kind) -> None:
        self.cluster = MemoryCluster(clock=SystemClock(), kinds=installed or RABBIT_KINDS)
        self.queues = TopologyQueues(self.cluster, TOPOLOGY, clock=SystemClock())

    async def objects(self) -> dict[tuple[str, str], dict[str, object]]:
        found: dict[tuple[str, str], dict[str, object]] = {}
        for kind in RABBIT_KINDS:
            if await self.cluster.served(kind):
                page = await self.cluster.list(kind)
                found |= {(kind.kind, one["metadata"]["name"]): one for one in page.items}
        return found

    async def operator_says(self, status: str, message: str = "", *, behind: int = 0) -> None:
        """Of everything that is there."""
        for kind in RABBIT_KINDS:
            for obj in (await self.cluster.list(kind)).items:
                metadata = obj["metadata"]
                observed = {} if status == "False" else {"observedGeneration": metadata["generation"] - behind}
                ready = {"type": "Ready", "status": status, "reason": "Said", "message": message}
                key = Key(metadata["namespace"], metadata["name"])
                await self.cluster.patch(
                    kind, key, {"status": {"conditions": [ready], **observed}}, subresource="status"
                )


async def test_shared_objects_come_first_and_the_functions_own_when_they_are_ready() -> None:
    desk = Desk()
    state = await desk.queues.ensure(ORDERS)
    assert (state.is_ready, state.needs_person) == (False, False)
    own = ("Queue", names.dead_letter_object(ORDERS))
    assert own not in await desk.objects()
    await desk.operator_says("True")
    assert not (await desk.queues.ensure(ORDERS)).is_ready
    assert own in await desk.objects()
    await desk.operator_says("True")
    assert (await desk.queues.ensure(ORDERS)).is_ready


async def test_word_for_an_older_generation_does_not_count() -> None:
    desk = Desk()
    await desk.queues.ensure(ORDERS)
    await desk.operator_says("True", behind=1)
    assert not (await desk.queues.ensure(ORDERS)).is_ready


async def test_refusal_of_the_operator_is_told_in_its_words() -> None:
    desk = Desk()
    await desk.queues.ensure(ORDERS)
    await desk.operator_says("False", "[max-rate] are not recognised policy settings")
    state = await desk.queues.ensure(ORDERS)
    assert state.needs_person
    assert "not recognised policy settings" in state.message


@pytest.mark.parametrize("missing", RABBIT_KINDS)
async def test_missing_kind_is_told_and_nothing_is_half_applied(missing: Kind) -> None:
    desk = Desk(*(kind for kind in RABBIT_KINDS if kind != missing))
    state = await desk.queues.ensure(ORDERS)
    assert state.reason is Reason.KIND_NOT_INSTALLED
    assert await desk.objects() == {}


async def test_queue_that_was_ready_is_not_asked_for_again_at_once() -> None:
    desk = Desk()
    for _ in range(3):
        await desk.queues.ensure(ORDERS)
        await desk.operator_says("True")
    key = Key("system", names.dead_letter_object(ORDERS))
    await desk.cluster.delete(kinds.QUEUE, key)
    assert (await desk.queues.ensure(ORDERS)).is_ready
    assert ("Queue", key.name) not in await desk.objects()
