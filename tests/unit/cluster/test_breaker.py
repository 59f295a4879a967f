"""The circuit breaker alone; with requests around it, see test_kube."""

from __future__ import annotations

import pytest

from knative_lambda.cluster.base import CircuitOpen
from knative_lambda.cluster.breaker import Breaker, Circuit
from knative_lambda.kit.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker(failures=5, seconds=60, clock=clock)


async def fail_one_after_the_other(breaker: Breaker, clock: ManualClock, times: int) -> None:
    for _ in range(times):
        entered = breaker.enter()
        await clock.advance(0.1)
        breaker.failed(entered)


async def test_five_failures_one_after_the_other_open_it(breaker: Breaker, clock: ManualClock) -> None:
    await fail_one_after_the_other(breaker, clock, 4)
    assert breaker.state is Circuit.CLOSED
    await fail_one_after_the_other(breaker, clock, 1)
    assert breaker.state is Circuit.OPEN
    with pytest.raises(CircuitOpen):
        breaker.enter()


async def test_fifty_requests_cut_by_one_restart_are_one_failure(breaker: Breaker, clock: ManualClock) -> None:
    entered = [breaker.enter() for _ in range(50)]
    for one in entered:
        await clock.advance(0.01)
        breaker.failed(one)
    assert breaker.state is Circuit.CLOSED


async def test_a_success_between_starts_the_count_again(breaker: Breaker, clock: ManualClock) -> None:
    await fail_one_after_the_other(breaker, clock, 4)
    breaker.enter()
    breaker.succeeded()
    await fail_one_after_the_other(breaker, clock, 4)
    assert breaker.state is Circuit.CLOSED


async def test_one_probe_after_a_minute_decides(breaker: Breaker, clock: ManualClock) -> None:
    await fail_one_after_the_other(breaker, clock, 5)
    await clock.advance(60)
    assert breaker.state is Circuit.HALF_OPEN
    breaker.enter()
    with pytest.raises(CircuitOpen):
        breaker.enter()
    breaker.succeeded()
    assert breaker.state is Circuit.CLOSED
