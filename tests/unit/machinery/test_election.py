"""Who leads, through everything that a Lease, a server and a loop can do."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from structlog.testing import capture_logs

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Conflict, Timeout, TooManyRequests, Unavailable
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.election import Election

from .link import Link, StallingClock, running, settle, until

LEASE = Key("system", "controller")


class Candidate:
    """One process: its own connection, its election, and when it led."""

    def __init__(self, cluster: MemoryCluster, clock: ManualClock, identity: str) -> None:
        self.clock = clock
        self.link = Link(cluster, clock)
        self.election = Election(self.link, clock=clock, namespace=LEASE.namespace, name=LEASE.name, identity=identity)
        self.led: list[tuple[float, float]] = []
        self.leads = False
        self.wind_down = 0.0
        """Seconds that its work takes to end."""
        self.could_write_to_the_end = True

    async def lead(self) -> None:
        since = self.clock.monotonic()
        self.leads = True
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self.wind_down:
                await self.clock.sleep(self.wind_down)
            self.could_write_to_the_end = self.election.may_write()
            self.leads = False
            self.led.append((since, self.clock.monotonic()))

    async def run(self) -> None:
        await self.election.run(self.lead)


class Town:
    """One API server and two candidates."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cluster = MemoryCluster(clock=self.clock)
        self.one = Candidate(self.cluster, self.clock, "one")
        self.two = Candidate(self.cluster, self.clock, "two")

    async def record(self) -> dict[str, Any]:
        spec: dict[str, Any] = (await self.cluster.get(kinds.LEASE, LEASE))["spec"]
        return spec

    async def advance(self, seconds: float) -> None:
        """In small steps, in which never two may write."""
        for _ in range(round(seconds * 10)):
            await self.clock.advance(0.1)
            assert not (self.one.election.may_write() and self.two.election.may_write())


async def test_the_first_candidate_leads_and_keeps_the_lease() -> None:
    town = Town()
    async with running(town.one.run()):
        await until(lambda: town.one.leads)
        assert (town.one.election.is_leader, town.one.election.may_write()) == (True, True)
        first = await town.record()
        await town.advance(60)
        assert town.one.leads
        record = await town.record()
    assert record["holderIdentity"] == "one"
    assert (record["leaseDurationSeconds"], record["leaseTransitions"]) == (15, 0)
    assert record["acquireTime"] == first["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    assert "2026-01-01T00:00:57" < record["renewTime"] <= "2026-01-01T00:01:00.000000Z"


async def test_renewing_costs_one_request_every_two_seconds() -> None:
    town = Town()
    async with running(town.one.run()):
        await until(lambda: town.one.leads)
        town.one.link.calls.clear()
        await town.advance(60)
        assert {verb for _, verb in town.one.link.calls} == {"replace"}
        assert len(town.one.link.calls) == 30


async def test_a_follower_waits_as_long_as_the_leader_renews() -> None:
    town = Town()
    async with running(town.one.run(), town.two.run()):
        await until(lambda: town.one.leads)
        await town.advance(120)
        assert not town.two.leads
        assert (town.two.election.holder, town.two.election.is_leader) == ("one", False)
        assert not town.two.election.may_write()


async def test_a_leader_that_leaves_gives_the_lease_back_and_the_follower_takes_over_at_once() -> None:
    town = Town()
    async with running(town.one.run(), town.two.run()) as [one, _]:
        await until(lambda: town.one.leads)
        await town.advance(5)
        one.cancel()
        await town.advance(2.5)
        assert town.two.leads
        record = await town.record()
    assert (record["holderIdentity"], record["leaseTransitions"]) == ("two", 1)
    assert record["acquireTime"] > "2026-01-01T00:00:05"


async def test_while_it_winds_down_a_leaving_leader_keeps_the_lease() -> None:
    town = Town()
    town.one.wind_down = 25
    async with running(town.one.run(), town.two.run()) as [one, _]:
        await until(lambda: town.one.leads)
        one.cancel()
        await town.advance(24.5)
        assert (town.one.leads, town.two.leads, town.one.election.may_write()) == (True, False, True)
        await town.advance(3.5)
        assert (town.one.could_write_to_the_end, town.two.leads) == (True, True)


async def test_a_leader_that_died_is_followed_after_the_lease_has_run_out() -> None:
    """A process that is killed says nothing: its connection is down before its task ends."""
    town = Town()
    async with running(town.one.run(), town.two.run()) as [one, _]:
        await until(lambda: town.one.leads)
        await town.advance(9.5)
        town.one.link.down = True
        one.cancel()
        await town.advance(12.5)
        assert not town.two.leads
        await town.advance(5)
        assert town.two.leads


async def test_a_leader_whose_server_hangs_stops_before_anybody_else_can_lead() -> None:
    town = Town()
    async with running(town.one.run(), town.two.run()):
        await until(lambda: town.one.leads)
        await town.advance(9)
        town.one.link.down = True
        renewed_at = town.one.link.times("replace")[-1] if town.one.link.times("replace") else 0.0
        await town.advance(20)
        assert town.two.leads
        assert not town.one.leads
        [(_, stopped)] = town.one.led
        assert stopped <= renewed_at + 10 + 0.001
        assert not town.one.could_write_to_the_end
        town.one.link.down = False
        await town.advance(60)
        assert town.two.leads
        assert not town.one.leads


async def test_a_leader_takes_over_again_when_everybody_lost_the_server_for_a_while() -> None:
    town = Town()
    async with running(town.one.run(), town.two.run()):
        await until(lambda: town.one.leads)
        town.one.link.down = town.two.link.down = True
        await town.advance(60)
        assert not town.one.leads
        assert not town.two.leads
        town.one.link.down = town.two.link.down = False
        await town.advance(25)
        assert town.one.leads != town.two.leads


@pytest.mark.parametrize("error", [Unavailable("500"), TooManyRequests("429"), Conflict("409"), Timeout("no answer")])
async def test_single_failures_of_the_server_do_not_cost_leadership(error: Unavailable) -> None:
    town = Town()
    async with running(town.one.run()):
        await until(lambda: town.one.leads)
        for _ in range(5):
            town.cluster.fail_next("replace", kinds.LEASE, error, times=3)
            await town.advance(11)
        assert (town.one.leads, town.one.led) == (True, [])


async def test_a_renewal_that_was_written_although_no_answer_came_does_not_confuse_the_leader() -> None:
    town = Town()
    async with running(town.one.run()):
        await until(lambda: town.one.leads)
        town.cluster.fail_next("replace", kinds.LEASE, Timeout("no answer"), times=2, after=True)
        await town.advance(20)
        assert (town.one.leads, town.one.led) == (True, [])


async def test_the_lease_is_given_back_even_if_the_last_renewal_got_no_answer() -> None:
    town = Town()
    async with running(town.one.run()) as [one]:
        await until(lambda: town.one.leads)
        town.cluster.fail_next("replace", kinds.LEASE, Timeout("no answer"), after=True)
        await town.advance(2.5)
        one.cancel()
        await settle()
        assert one.cancelled()
    assert "holderIdentity" not in await town.record()


async def test_a_leader_that_is_robbed_of_the_record_stops_at_its_next_look() -> None:
    town = Town()
    async with running(town.one.run()):
        await until(lambda: town.one.leads)
        await town.cluster.patch(kinds.LEASE, LEASE, {"spec": {"holderIdentity": "somebody"}})
        await town.advance(5)
        assert not town.one.leads
        assert (town.one.election.is_leader, town.one.election.holder) == (False, "somebody")


async def test_a_record_that_somebody_deletes_is_made_anew() -> None:
    town = Town()
    async with running(town.one.run()):
        await until(lambda: town.one.leads)
        await town.cluster.delete(kinds.LEASE, LEASE)
        await town.advance(8)
        assert (town.one.leads, town.one.led) == (True, [])
        assert (await town.record())["holderIdentity"] == "one"


async def test_a_loop_that_stalled_may_not_write_from_the_moment_it_wakes() -> None:
    clock = StallingClock()
    leader = Candidate(MemoryCluster(clock=clock), clock, "one")
    async with running(leader.run()):
        await until(lambda: leader.leads)
        assert leader.election.may_write()
        clock.stall(10)
        assert not leader.election.may_write()
        await clock.advance(2.1)
        assert len(leader.led) == 1
        assert not leader.could_write_to_the_end
        await clock.advance(5)
        assert leader.leads


async def test_wall_clocks_that_disagree_do_not_matter() -> None:
    """The record of the other says that it was renewed years ago; only that it does not change counts."""
    town = Town()
    old = {"holderIdentity": "zero", "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00.000000Z"}
    lease = {"metadata": {"namespace": LEASE.namespace, "name": LEASE.name}, "spec": old}
    await town.cluster.create(kinds.LEASE, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease})
    async with running(town.one.run()):
        await town.advance(14.5)
        assert not town.one.leads
        await town.advance(3.5)
        assert town.one.leads


async def test_a_holder_with_a_longer_lease_than_ours_is_respected() -> None:
    town = Town()
    spec = {"holderIdentity": "zero", "leaseDurationSeconds": 60}
    lease = {"metadata": {"namespace": LEASE.namespace, "name": LEASE.name}, "spec": spec}
    await town.cluster.create(kinds.LEASE, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease})
    async with running(town.one.run()):
        await town.advance(59)
        assert not town.one.leads
        await town.advance(4)
        assert town.one.leads


async def test_two_that_start_together_agree_on_one() -> None:
    town = Town()
    async with running(town.one.run(), town.two.run()):
        await settle()
        assert town.one.leads != town.two.leads


async def test_followers_do_not_ask_in_step() -> None:
    town = Town()
    async with running(town.one.run(), town.two.run()):
        await until(lambda: town.one.leads)
        await town.advance(60)
        looks = town.two.link.times("get")
    gaps = {round(after - before, 3) for before, after in itertools.pairwise(looks)}
    assert len(gaps) > 5
    assert all(2 <= gap <= 2.41 for gap in gaps)


async def test_work_that_ends_by_itself_ends_the_election_and_frees_the_lease() -> None:
    town = Town()

    async def fails() -> None:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        await town.one.election.run(fails)
    assert "holderIdentity" not in await town.record()
    assert not town.one.election.may_write()


async def test_a_server_that_stays_away_is_complained_about_once() -> None:
    town = Town()
    town.cluster.fail_next("get", kinds.LEASE, Unavailable("connection refused"), times=1000)
    with capture_logs() as logs:
        async with running(town.one.run()):
            await town.advance(60)
    assert [line["log_level"] for line in logs] == ["warning"]


def test_times_that_cannot_be_safe_are_refused() -> None:
    clock = ManualClock()
    with pytest.raises(ValueError, match="renew deadline < duration"):
        Election(
            MemoryCluster(clock=clock),
            clock=clock,
            namespace="a",
            name="b",
            identity="c",
            duration=10,
            renew_deadline=10,
        )
