"""Two controllers, one Lease: one writes, the other takes over."""

from __future__ import annotations

import time
from pathlib import Path

from tests.apiserver.conftest import StartOperator
from tests.apiserver.operator import READY
from tests.apiserver.proxy import ApiProxy, Trouble
from tests.apiserver.stage import Stage, inline


def holder(stage: Stage) -> str:
    lease = stage.api.find(stage.path("leases", "knative-lambda-operator"))
    return str((lease or {}).get("spec", {}).get("holderIdentity") or "")


def test_a_second_controller_takes_over_at_once_when_the_first_leaves(
    stage: Stage, start_operator: StartOperator
) -> None:
    leader = ("--leader-elect", "--lease-namespace", stage.namespace)
    first = start_operator(*leader, "--identity", "first")
    stage.wait(lambda: holder(stage) == "first", what="the first leads")
    start_operator(*leader, "--identity", "second", wait=False)
    stage.apply("lambdafunctions", inline("one"))
    stage.wait_ready("one")
    first.terminate()
    began = time.monotonic()
    stage.wait(lambda: holder(stage) == "second", what="the second leads")
    assert time.monotonic() - began < 8, "a released Lease is not waited out"
    stage.apply("lambdafunctions", inline("two"))
    stage.wait_ready("two")


def test_a_leader_whose_api_server_hangs_stops_writing_and_lets_another_lead(
    stage: Stage, start_operator: StartOperator, proxy: ApiProxy, tmp_path: Path
) -> None:
    leader = ("--leader-elect", "--lease-namespace", stage.namespace)
    first = start_operator(*leader, "--identity", "first", kubeconfig=proxy.kubeconfig(tmp_path / "k"))
    stage.wait(lambda: holder(stage) == "first", what="the first leads")
    proxy.trouble(Trouble(lambda call: call.resource == "leases", hang=40))
    second = start_operator(*leader, "--identity", "second", wait=False)
    stage.wait(lambda: holder(stage) == "second", what="the second leads", timeout=40)
    before = len(proxy.calls)
    second.wait_for_log(READY)
    stage.apply("lambdafunctions", inline("fenced"))
    stage.wait_ready("fenced")
    assert [call for call in proxy.calls[before:] if call.is_write] == []
    assert first.running
