"""Functions on Knative's own controllers: Ready, rolled, failing and at rest by Knative's own word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage, condition, inline, repository
from tests.apiserver.workdir import WorkingCopy
from tests.testbed.apiclient import ApiError
from tests.testbed.gitserver import GitServer
from tests.testbed.knative.bed import KnativeBed
from tests.testbed.knative.node import ContainerOutcome

Object = dict[str, Any]
READY_SECONDS = 60


def service(stage: Stage, name: str) -> Object:
    """The function's Knative Service."""
    return stage.api.get(stage.path("services", name))


def is_true(obj: Object, kind: str) -> bool:
    return bool(condition(obj, kind).get("status") == "True")


def test_a_push_becomes_ready_and_the_next_one_rolls_a_new_revision(
    stage: Stage, operator: Operator, git_server: GitServer, tmp_path: Path
) -> None:
    copy = WorkingCopy(tmp_path / "work", git_server.create_repository("knative"))
    copy.function("hello")
    copy.push()
    stage.apply("functionrepositories", repository("functions", git_server.url("knative")))
    stage.wait_ready("hello", timeout=READY_SECONDS)
    first = service(stage, "hello")
    assert is_true(first, "Ready")
    assert first["status"]["latestReadyRevisionName"] == "hello-00001"
    copy.function("hello", code="def handler(request):\n    return 'again'\n")
    copy.push("again")
    second = stage.wait(
        lambda: _rolled(service(stage, "hello")), what="a second revision that is ready", timeout=READY_SECONDS
    )
    assert image(second) != image(first)
    stage.wait_ready("hello", timeout=READY_SECONDS)
    assert operator.running


def _rolled(found: Object) -> Object | None:
    ready = found["status"].get("latestReadyRevisionName") == "hello-00002" and is_true(found, "Ready")
    return found if ready else None


def image(found: Object) -> str:
    named: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return named


def test_a_failing_container_is_reported_with_its_last_words(
    stage: Stage, operator: Operator, knative_bed: KnativeBed
) -> None:
    knative_bed.node.outcomes.set(f"{stage.namespace}/*", ContainerOutcome.crash("no such table: users", exit_code=3))
    stage.apply("lambdafunctions", inline("broken"))
    fn = stage.wait(
        lambda: _says(stage.function("broken"), "no such table: users"), what="the last words", timeout=READY_SECONDS
    )
    assert condition(fn, "Ready")["status"] != "True"
    assert condition(service(stage, "broken"), "Ready")["status"] == "False"
    assert operator.running


def _says(fn: Object | None, words: str) -> Object | None:
    rows = (fn or {}).get("status", {}).get("conditions", [])
    return fn if any(words in row.get("message", "") for row in rows) else None


def test_a_function_at_rest_has_no_pods_and_stays_ready(stage: Stage, operator: Operator) -> None:
    stage.apply("lambdafunctions", inline("idle", scaling={"scaleToZeroGracePeriod": "0s"}))
    stage.wait_ready("idle", timeout=READY_SECONDS)
    assert _pods(stage, "idle")
    stage.wait(lambda: not _pods(stage, "idle"), what="no pods", timeout=90)
    revision = stage.api.get(f"/apis/serving.knative.dev/v1/namespaces/{stage.namespace}/revisions/idle-00001")
    assert condition(revision, "Active")["reason"] == "NoTraffic"
    assert is_true(service(stage, "idle"), "Ready")
    stage.wait_ready("idle", timeout=5)
    assert operator.running


def _pods(stage: Stage, name: str) -> list[Object]:
    return stage.list("pods", labelSelector=f"serving.knative.dev/service={name}")


def test_knatives_webhook_stands_in_the_way_of_a_service_that_knative_would_not_take(stage: Stage) -> None:
    template = {
        "metadata": {
            "annotations": {"autoscaling.knative.dev/min-scale": "5", "autoscaling.knative.dev/max-scale": "1"}
        },
        "spec": {"containers": [{"image": f"registry.example/fn@sha256:{'0' * 64}"}]},
    }
    manifest = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "odd"},
        "spec": {"template": template},
    }
    with pytest.raises(ApiError, match="max-scale=1 is less than min-scale=5"):
        stage.apply("services", manifest)
