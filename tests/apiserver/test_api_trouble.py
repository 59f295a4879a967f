"""The API server misbehaves, and the function becomes Ready all the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.operator import Operator
from tests.apiserver.proxy import ApiProxy, Call, Trouble
from tests.apiserver.stage import Stage, inline
from tests.testbed.kubernetes import KubernetesBed


def writes(call: Call) -> bool:
    return call.is_write


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Trouble(writes, status=409, times=3), id="conflicts"),
        pytest.param(Trouble(writes, status=429, headers={"Retry-After": "1"}, times=3), id="asks-for-patience"),
        pytest.param(Trouble(writes, status=500, times=4), id="fails"),
        pytest.param(Trouble(writes, hang=12, times=2), id="hangs"),
        pytest.param(Trouble(writes, lose_answer=True, times=3), id="does-it-and-loses-the-answer"),
    ],
)
def test_a_function_becomes_ready_although_the_server(
    trouble: Trouble, stage: Stage, proxied: Operator, proxy: ApiProxy
) -> None:
    proxy.trouble(trouble)
    stage.apply("lambdafunctions", inline("patient"))
    stage.wait_ready("patient", timeout=60)
    assert len(stage.jobs_of("patient")) == 1
    assert proxied.running


def test_watches_that_are_cut_again_and_again_miss_nothing(stage: Stage, proxied: Operator, proxy: ApiProxy) -> None:
    for number in range(5):
        stage.apply("lambdafunctions", inline(f"cut-{number}"))
        proxy.cut_watches()
        time.sleep(0.3)
    for number in range(5):
        stage.wait_ready(f"cut-{number}", timeout=60)
    assert proxied.running


def test_a_deletion_behind_a_compacted_history_is_noticed(
    stage: Stage, proxied: Operator, proxy: ApiProxy, kubernetes_bed: KubernetesBed
) -> None:
    stage.apply("lambdafunctions", inline("before"))
    stage.wait_ready("before")
    proxy.trouble(Trouble(lambda call: call.watch, status=410, times=20))
    proxy.cut_watches()
    stage.apply("lambdafunctions", inline("after"))
    stage.delete("services", "before")
    stage.wait_ready("after", timeout=60)
    stage.wait(lambda: stage.api.find(stage.path("services", "before")), what="the deleted Service made again")
    assert kubernetes_bed.url
    assert proxied.running


def test_a_server_that_is_away_at_the_start_is_waited_for(
    stage: Stage, start_operator: StartOperator, proxy: ApiProxy, tmp_path: Path
) -> None:
    proxy.trouble(Trouble(lambda call: True, status=503))
    operator = start_operator(kubeconfig=proxy.kubeconfig(tmp_path / "k"), wait=False)
    time.sleep(3)
    assert operator.running
    proxy.calm()
    stage.apply("lambdafunctions", inline("late"))
    stage.wait_ready("late", timeout=150)


def test_a_breaker_stops_asking_a_server_that_only_fails(stage: Stage, proxied: Operator, proxy: ApiProxy) -> None:
    proxy.trouble(Trouble(writes, status=500))
    for number in range(20):
        stage.apply("lambdafunctions", inline(f"many-{number}"))
    time.sleep(5)
    failed = sum(call.is_write for call in proxy.calls)
    assert failed <= 60, "after five failures in a row nothing is asked for a minute, bar what was under way"
    assert proxied.running
