"""What `kn-lambda dlq` asks the API server for: which functions there are, and where one answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.apiserver.stage import Stage, inline
from tests.apiserver.test_dead_letters import FUNCTION
from tests.testbed.kubernetes import KubernetesBed

NOWHERE = "amqp://me:hunter2@127.0.0.1:1/"


def dlq(bed: KubernetesBed, rabbitmq: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "knative_lambda", "dlq", *arguments],
        env=os.environ | {"KN_LAMBDA_RABBITMQ": rabbitmq, "KUBECONFIG": str(bed.kubeconfig)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_list_names_functions_with_triggers_of_one_namespace(
    kubernetes_bed: KubernetesBed, stage: Stage, vhost_url: str
) -> None:
    for name, spec in (("orders", FUNCTION), ("bills", FUNCTION), ("web", {})):
        stage.apply("lambdafunctions", inline(name, **spec))
    when = "2026-01-01T00:00:00Z"
    row = {"type": "DLQReady", "status": "False", "reason": "DLQRefused", "message": "406", "lastTransitionTime": when}
    stage.api.merge(f"{stage.path('lambdafunctions', 'orders')}/status", {"status": {"conditions": [row]}})
    done = dlq(kubernetes_bed, vhost_url, "list", "-n", stage.namespace, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    bills, orders, catch_all = json.loads(done.stdout)
    assert [one["place"] for one in (bills, orders, catch_all)] == [
        f"{stage.namespace}/bills", f"{stage.namespace}/orders", "catch-all"
    ]  # fmt: skip
    assert (bills["letters"], bills["dlq_ready"]) == (None, None)
    assert orders["dlq_ready"] == {"status": "False", "reason": "DLQRefused", "message": "406"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nobody", '"nobody" not found; say where its letters shall go: --to URL'),
        ("orders", "has no URL yet; wait until it is Ready, or say where: --to URL"),
    ],
)
def test_replay_needs_a_function_that_answers_somewhere(
    kubernetes_bed: KubernetesBed, stage: Stage, name: str, told: str
) -> None:
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    done = dlq(kubernetes_bed, NOWHERE, "replay", f"{stage.namespace}/{name}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert told in done.stderr
    assert "hunter2" not in done.stderr
