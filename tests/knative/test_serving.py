"""Functions on Knative's own controllers: Ready, rolled, failing and at rest by Knative's own word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage, condition, inline, repository
from tests.apiserver.workdir import WorkingCopy
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
