"""Many requests become few looks, and never one too few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from knative_lambda.api import crd, kinds, meta
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import NotFound, Unavailable, WriteFenced
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.gitsync.requests import SyncRequests
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.queue import WorkQueue
from knative_lambda.machinery.runner import Runner
from knative_lambda.receivers.looks import Looks
from knative_lambda.wiring.webhooks import WRITABLE, Doorbell, only_asks

KEY = Key("team", "functions")


class Leader:
    """Who is asked for looks; `errors` are raised first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.looked: list[Key] = []

    async def request(self, key: Key) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.looked.append(key)


@asynccontextmanager
async def running(looks: Looks, clock: ManualClock) -> AsyncIterator[Looks]:
    task = asyncio.create_task(looks.run())
    await clock.advance(0)
    yield looks
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_first_request_goes_out_at_once() -> None:
    clock, leader = ManualClock(), Leader()
    async with running(Looks(leader.request, clock=clock), clock) as looks:
        looks.ask(KEY)
        await clock.advance(0)
        assert leader.looked == [KEY]


async def test_a_thousand_requests_in_two_seconds_become_few_and_the_last_is_followed_by_a_look() -> None:
    clock, leader = ManualClock(), Leader()
    async with running(Looks(leader.request, clock=clock), clock) as looks:
        for _ in range(1000):
            looks.ask(KEY)
            await clock.advance(0.002)
        before_last = len(leader.looked)
        looks.ask(KEY)
        await clock.advance(1)
        assert len(leader.looked) > before_last
        assert 4 <= len(leader.looked) <= 7
        assert (looks.asked, looks.requested) == (1001, len(leader.looked))


async def test_repositories_do_not_wait_for_each_other() -> None:
    clock, leader = ManualClock(), Leader()
    async with running(Looks(leader.request, clock=clock), clock) as looks:
        keys = [Key("team", f"repo-{number}") for number in range(50)]
        for key in keys:
            looks.ask(key)
        await clock.advance(0)
        assert leader.looked == keys


async def test_a_request_that_fails_is_tried_again_until_it_goes_out() -> None:
    clock, leader = ManualClock(), Leader(*(Unavailable("away") for _ in range(3)))
    async with running(Looks(leader.request, clock=clock), clock) as looks:
        looks.ask(KEY)
        await clock.advance(60)
        assert leader.looked == [KEY]


async def test_a_repository_that_is_gone_is_not_asked_for_again() -> None:
    clock, leader = ManualClock(), Leader(NotFound("gone"))
    async with running(Looks(leader.request, clock=clock), clock) as looks:
        looks.ask(KEY)
        await clock.advance(60)
        assert leader.looked == []
        looks.ask(KEY)
        await clock.advance(0)
        assert leader.looked == [KEY]


async def test_what_waits_at_the_end_goes_out_in_the_last_moment() -> None:
    clock, leader = ManualClock(), Leader()
    async with running(Looks(leader.request, clock=clock), clock) as looks:
        looks.ask(KEY)
        await clock.advance(0)
        looks.ask(KEY)
    assert len(leader.looked) == 1
    await looks.drain()
    assert len(leader.looked) == 2


async def test_a_request_that_arrives_while_a_sync_runs_leads_to_another() -> None:
    clock = ManualClock()
    queue: WorkQueue[Key] = WorkQueue(clock=clock)
    requests = SyncRequests(queue.add)
    begun: list[bool] = []
    end = asyncio.Event()

    async def sync(key: Key) -> None:
        begun.append(requests.take(key))
        await end.wait()

    async def request(key: Key) -> None:
        requests.mark(key)

    runner = asyncio.create_task(Runner("repositories", queue, sync, clock=clock).run())
    async with running(Looks(request, clock=clock), clock) as looks:
        looks.ask(KEY)
        await clock.advance(1)
        assert begun == [True]
        for _ in range(100):
            looks.ask(KEY)
        await clock.advance(1)
        assert begun == [True]
        end.set()
        await clock.advance(1)
        assert begun == [True, True]
    runner.cancel()
    await asyncio.gather(runner, return_exceptions=True)


# On a replica that does not lead.


async def test_the_doorbell_writes_one_annotation_and_a_new_value_each_time() -> None:
    clock = ManualClock()
    cluster = MemoryCluster(clock=clock, definitions=crd.definitions())
    manifest = {
        "metadata": {"namespace": KEY.namespace, "name": KEY.name, "annotations": {"mine": "stays"}},
        "spec": {"url": "https://example.com/f.git"},
    }
    made = await cluster.create(
        kinds.FUNCTION_REPOSITORY, {"apiVersion": meta.API_VERSION, "kind": "FunctionRepository", **manifest}
    )
    doorbell = Doorbell(cluster, clock=clock, identity="replica-2")
    values = []
    for _ in range(2):
        await clock.advance(1)
        await doorbell.ring(KEY)
        obj = await cluster.get(kinds.FUNCTION_REPOSITORY, KEY)
        annotations = obj["metadata"]["annotations"]
        values.append(annotations.pop(meta.ANNOTATION_RECONCILE))
        assert annotations == {"mine": "stays"}
        assert obj["spec"] == made["spec"]
    assert values[0] != values[1]
    with pytest.raises(NotFound):
        await doorbell.ring(Key("team", "gone"))


def test_a_receiver_may_write_repositories_and_events_and_nothing_else() -> None:
    for kind in kinds.ALL:
        if kind in WRITABLE:
            only_asks(kind)
        else:
            with pytest.raises(WriteFenced, match="a receiver only asks"):
                only_asks(kind)
    assert {kind.kind for kind in WRITABLE} == {"FunctionRepository", "Event"}
