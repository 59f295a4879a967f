"""When a restart would help, and when it would not."""

from __future__ import annotations

from dataclasses import dataclass

from structlog.testing import capture_logs

from knative_lambda.web.heartbeat import SILENCE, Heartbeat, Workers
from tests.unit.machinery.link import StallingClock, running, settle


@dataclass
class Shop:
    """Workers that the test moves."""

    waiting: int = 0
    handled: int = 0
    leads: bool = True

    def workers(self) -> Workers:
        return Workers("functions", lambda: self.waiting, lambda: self.handled, lambda: self.leads, limit=240)


async def test_a_quiet_process_is_alive() -> None:
    clock = StallingClock()
    heart = Heartbeat(clock=clock, workers=[Shop().workers()])
    async with running(heart.run()):
        await clock.advance(3600)
        pulse = heart.pulse()
    assert pulse.problems == ()
    assert (pulse.stalls, pulse.longest_stall) == (0, 0)
    assert pulse.last_beat <= 1


async def test_a_stall_that_is_over_is_told_and_kills_nobody() -> None:
    clock = StallingClock()
    heart = Heartbeat(clock=clock)
    with capture_logs() as logs:
        async with running(heart.run()):
            await settle()
            for seconds in (2, 9, 3):
                clock.stall(seconds)
                await clock.advance(1)
            pulse = heart.pulse()
    assert pulse.problems == ()
    assert (pulse.stalls, pulse.longest_stall) == (3, 9)
    assert [log["event"] for log in logs] == ["the loop was held up"] * 3


async def test_a_heartbeat_that_died_in_a_living_loop_is_a_problem() -> None:
    clock = StallingClock()
    heart = Heartbeat(clock=clock)
    async with running(heart.run()):
        await clock.advance(5)
    await clock.advance(SILENCE + 2)
    assert heart.pulse().problems == ("no heartbeat for 17 s",)


async def test_workers_that_handle_nothing_while_keys_wait_are_a_problem() -> None:
    clock, shop = StallingClock(), Shop()
    heart = Heartbeat(clock=clock, workers=[shop.workers()])
    async with running(heart.run()):
        await clock.advance(1000)
        shop.waiting = 3
        await clock.advance(239)
        assert heart.pulse().problems == ()
        await clock.advance(10)
        assert heart.pulse().problems == ("functions: keys wait, and none was handled for 249 s",)
        shop.handled += 1
        await clock.advance(2)
        assert heart.pulse().problems == ()


async def test_keys_that_wait_for_a_leader_are_no_problem_of_a_standby() -> None:
    clock, shop = StallingClock(), Shop(waiting=5, leads=False)
    heart = Heartbeat(clock=clock, workers=[shop.workers()])
    async with running(heart.run()):
        await clock.advance(1000)
        assert heart.pulse().problems == ()
        shop.leads = True
        await clock.advance(200)
        assert heart.pulse().problems == (), "its time begins when it begins to lead"
