"""Requests and instances of one revision, with instances that only seem to run and a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import ManualClock
from knative_lambda.local.serving.instance import Instance, Place, Revision, StartFailed
from knative_lambda.local.serving.instance_log import InstanceLog
from knative_lambda.local.serving.limits import Limits
from knative_lambda.local.serving.pool import STEADY, Moved, Pool, Refused
from knative_lambda.local.serving.revisions import Template
from knative_lambda.local.serving.scaling import Scale
from knative_lambda.local.serving.serving_options import ServerOptions

pytestmark = pytest.mark.unit

OPTIONS = ServerOptions(grace_seconds=30.0, window_seconds=5.0, wait_seconds=20.0, queue=3, instances=4)
TEMPLATE = Template(
    image="i@sha256:0", variables=(), scale=Scale(target=2), hard_limit=2, grace=None, timeout=10.0, memory=0,
    processors=0, scratch=0, identity="x",
)  # fmt: skip


class Puppet:
    """In a Child's place: ends when it is told to."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exit_code: int | None = None
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        return self.exit_code or 0

    def crash(self, code: int = 1) -> None:
        self.exit_code = code
        self._ended.set()


class Puppets:
    """In a Starter's place."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.seconds = 1.0
        self.failure = ""
        self.error: Exception | None = None
        self.started = 0
        self.stopped: list[int] = []
        self._folder = folder
        self._clock = clock

    async def start(self, revision: Revision) -> Instance:
        await self._clock.sleep(self.seconds)
        if self.failure:
            raise StartFailed(self.failure)
        if self.error is not None:
            raise self.error
        self.started += 1
        place = Place(f"{revision.name}-{self.started}", self._folder, 1, 0)
        output = InstanceLog(self._folder / "log", limit=100)
        return Instance(place, cast("Any", Puppet(self.started)), output, Limits(0, 0, 0))

    async def stop(self, instance: Instance) -> None:
        self.stopped.append(instance.child.pid)
        cast("Puppet", instance.child).crash(0)


class Table:
    """A pool with all that it touches."""

    def __init__(self, folder: Path, *, template: Template = TEMPLATE, options: ServerOptions = OPTIONS) -> None:
        self.clock = ManualClock()
        self.puppets = Puppets(folder, self.clock)
        self.changes = 0
        self.pool = Pool(
            Revision(Key("ns", "fn"), "fn-00001", template),
            self.puppets,
            clock=self.clock,
            options=options,
            on_change=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def lease(self) -> asyncio.Task[Instance]:
        return asyncio.create_task(self.pool.lease())

    async def pass_time(self, seconds: float, *, step: float = 0.5) -> None:
        """With a tick at every step."""
        for _ in range(round(seconds / step)):
            await self.clock.advance(step)
            self.pool.tick()
        await self.clock.advance(0)

    async def proven(self) -> Table:
        self.pool.prove()
        await self.clock.advance(self.puppets.seconds)
        return self


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[Table]:
    table = Table(tmp_path)
    yield table
    closing = asyncio.create_task(table.pool.close())
    await table.clock.advance(1000)
    await closing


async def test_a_proof_starts_one_instance_and_tells_how_it_went(table: Table) -> None:
    await table.proven()
    assert (table.pool.proven, table.pool.failure, table.changes) == (True, "", 1)
    table.pool.prove()
    await table.clock.advance(5)
    assert table.puppets.started == 1


async def test_requests_wait_for_the_first_instance_and_share_it(table: Table) -> None:
    waiting = [table.lease() for _ in range(2)]
    await table.clock.advance(0.9)
    assert table.pool.waiting == 2
    await table.clock.advance(0.1)
    assert {(await each).place.name for each in waiting} == {"fn-00001-1"}
    assert table.puppets.started == 1


async def test_a_full_queue_turns_away(table: Table) -> None:
    waiting = [table.lease() for _ in range(3)]
    await table.clock.advance(0)
    with pytest.raises(Refused, match="too many requests wait"):
        await table.pool.lease()
    await table.clock.advance(1)
    assert all(each.done() for each in waiting)


async def test_a_request_that_waits_too_long_is_turned_away(table: Table) -> None:
    table.puppets.seconds = 100.0
    waiting = table.lease()
    await table.clock.advance(20.0)
    with pytest.raises(Refused) as refused:
        await waiting
    assert refused.value.retry_after == 1
    assert table.pool.waiting == 0


async def test_a_request_that_is_given_up_leaves_its_place_to_the_next(table: Table) -> None:
    first, second = table.lease(), table.lease()
    await table.clock.advance(0.5)
    first.cancel()
    await table.clock.advance(0.5)
    assert (await second).in_flight == 1
    assert table.pool.waiting == 0


async def test_load_brings_more_instances_and_quiet_ends_them_one_after_the_other(table: Table) -> None:
    await table.proven()
    leases = [table.lease() for _ in range(5)]
    await table.clock.advance(1)
    assert len(table.pool.instances) == 3
    for each in leases:
        table.pool.give_back(await each)
    await table.pass_time(4.5)
    assert len(table.pool.instances) == 3
    await table.pass_time(1)
    assert len(table.pool.instances) == 1
    await table.pass_time(24)
    assert len(table.pool.instances) == 1
    await table.pass_time(1)
    assert table.pool.instances == []
    assert sorted(table.puppets.stopped) == [1, 2, 3]
    assert table.pool.failure == ""


async def test_an_instance_that_is_to_end_finishes_its_requests(table: Table) -> None:
    await table.proven()
    running = await table.pool.lease()
    closing = asyncio.create_task(table.pool.close())
    await table.clock.advance(9.9)
    assert not closing.done()
    table.pool.give_back(running)
    await table.clock.advance(0)
    assert closing.done()
    assert table.puppets.stopped == [1]


async def test_requests_that_never_end_do_not_hold_up_the_end(table: Table) -> None:
    await table.proven()
    await table.pool.lease()
    closing = asyncio.create_task(table.pool.close())
    await table.clock.advance(TEMPLATE.timeout)
    assert closing.done()


async def test_who_waits_in_a_pool_that_closes_is_sent_to_its_successor(table: Table) -> None:
    waiting = table.lease()
    await table.clock.advance(0.5)
    closing = asyncio.create_task(table.pool.close())
    await table.clock.advance(0)
    with pytest.raises(Moved):
        await waiting
    with pytest.raises(Moved):
        await table.pool.lease()
    assert closing.done()
    assert table.puppets.started == 0


async def test_a_failing_start_is_told_and_repeated_ever_more_rarely(table: Table) -> None:
    table.puppets.failure = "no module named x"
    waiting = table.lease()
    await table.clock.advance(1)
    with pytest.raises(Refused, match="does not start"):
        await waiting
    assert (table.pool.failure, table.changes) == ("no module named x", 1)
    with pytest.raises(Refused, match="does not start"):
        await table.pool.lease()
    waits = []
    for _ in range(4):
        waits.append(table.pool.retry_in)
        await table.clock.advance(table.pool.retry_in)
        table.pool.prove()
        await table.clock.advance(1)
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(waits))
    table.puppets.failure = ""
    await table.clock.advance(table.pool.retry_in)
    await table.proven()
    assert table.pool.failure == ""


async def test_an_error_of_our_own_turns_away_and_is_told(table: Table) -> None:
    table.puppets.error = RuntimeError("a bug")
    waiting = table.lease()
    await table.clock.advance(1)
    with pytest.raises(Refused, match="does not start"):
        await waiting
    assert "RuntimeError in local mode itself" in table.pool.failure


async def test_the_first_crash_is_mended_without_a_word(table: Table) -> None:
    await table.proven()
    cast("Puppet", table.pool.instances[0].child).crash()
    await table.clock.advance(1)
    assert len(table.pool.instances) == 1
    assert (table.pool.failure, table.changes) == ("", 1)


async def test_a_function_that_crashes_again_and_again_is_told(table: Table) -> None:
    await table.proven()
    for _ in range(2):
        cast("Puppet", table.pool.instances[0].child).crash(3)
        await table.clock.advance(1)
    assert table.pool.failure == "Container failed with: exit code 3"
    await table.pass_time(10)
    assert table.pool.failure == ""


async def test_a_crash_after_a_long_life_is_a_first_one_again(table: Table) -> None:
    await table.proven()
    for _ in range(3):
        cast("Puppet", table.pool.instances[0].child).crash(3)
        await table.clock.advance(1)
        assert table.pool.failure == ""
        await table.clock.advance(STEADY)


async def test_an_instance_that_let_a_request_time_out_is_replaced(table: Table) -> None:
    await table.proven()
    stuck = await table.pool.lease()
    table.pool.give_back(stuck, suspect=True)
    fresh = table.lease()
    await table.clock.advance(1)
    assert (await fresh) is not stuck
    assert table.puppets.stopped == [1]


async def test_an_instance_without_a_port_is_not_asked_again(table: Table) -> None:
    await table.proven()
    gone = await table.pool.lease()
    table.pool.give_back(gone, gone=True)
    fresh = table.lease()
    await table.clock.advance(2)
    assert (await fresh) is not gone
    assert table.puppets.stopped == [1]


@pytest.mark.parametrize(
    ("asked", "person", "seconds"), [(None, None, 30.0), (60.0, None, 60.0), (60.0, 90.0, 90.0), (60.0, 10.0, 10.0)]
)
async def test_a_person_decides_before_the_function_how_long_it_rests(
    tmp_path: Path, asked: float | None, person: float | None, seconds: float
) -> None:
    template, options = replace(TEMPLATE, grace=asked), replace(OPTIONS, idle_seconds=person)
    table = await Table(tmp_path, template=template, options=options).proven()
    await table.pass_time(seconds - 0.5)
    assert len(table.pool.instances) == 1
    await table.pass_time(0.5)
    assert table.pool.instances == []


async def test_the_window_keeps_nothing_longer_than_a_person_wants(tmp_path: Path) -> None:
    table = await Table(tmp_path, options=replace(OPTIONS, idle_seconds=1.0)).proven()
    table.pool.give_back(await table.pool.lease())
    await table.pass_time(1.0)
    assert table.pool.instances == []


async def test_the_least_number_is_kept_without_requests(tmp_path: Path) -> None:
    table = await Table(tmp_path, template=replace(TEMPLATE, scale=Scale(least=2, target=2))).proven()
    await table.pass_time(100)
    assert len(table.pool.instances) == 2
