"""A person at a terminal: kubectl apply, get, wait, describe, delete."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage, inline
from tests.testbed import assets
from tests.testbed.kubernetes import KubernetesBed

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(kubernetes_bed: KubernetesBed, namespace: str) -> Kubectl:
    """Runs kubectl in the test's namespace and returns what it printed."""
    program = assets.kubectl()

    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [program, "--kubeconfig", kubernetes_bed.kubeconfig, "--namespace", namespace, *arguments],
            input=stdin, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    return run


def test_a_function_from_apply_to_delete(stage: Stage, operator: Operator, kubectl: Kubectl, tmp_path: Path) -> None:
    manifest = tmp_path / "function.json"
    manifest.write_text(json.dumps(inline("hello")))
    assert "lambdafunction.lambda.knative.io/hello created" in kubectl("apply", "-f", str(manifest))
    kubectl("wait", "--for=condition=Ready", "lfn/hello", "--timeout=30s")

    header, row = kubectl("get", "lfn").splitlines()
    assert header.split() == ["NAME", "READY", "PHASE", "LANGUAGE", "URL", "AGE"]
    assert row.split()[:4] == ["hello", "True", "Ready", "python"]
    assert "IMAGE" in kubectl("get", "lfn", "-o", "wide")
    assert "lambdafunction.lambda.knative.io/hello" in kubectl("get", "knative", "-o", "name")

    def story() -> bool:
        told = kubectl("describe", "lfn", "hello").partition("Events:")[2]
        return all(word in told for word in ("Building", "Deploying", "Ready"))

    stage.wait(story, what="the story in kubectl describe")
    assert "unchanged" in kubectl("apply", "-f", str(manifest))
    kubectl("delete", "lfn", "hello", "--timeout=30s")
    stage.wait_gone("services", "hello")
    assert operator.running


def test_explain_teaches_every_field(stage: Stage, kubectl: Kubectl) -> None:
    told = kubectl("explain", "lfn.spec.scaling.scaleToZeroGracePeriod")
    assert "How long the last replica is kept without traffic" in told
    assert stage.namespace
