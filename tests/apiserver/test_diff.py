"""`kn-lambda diff` against a real API server: the difference, its exit code, and that nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.kubernetes import KubernetesBed

GREETING = """\
apiVersion: lambda.knative.io/v1alpha1
kind: LambdaFunction
metadata: {name: greeting}
spec:
  source: {type: inline, inline: {code: "x = 1"}}
  runtime: {language: python}
"""


@pytest.fixture
def greeting(tmp_path: Path) -> Path:
    path = tmp_path / "greeting.yaml"
    path.write_text(GREETING)
    return path


def _diff(bed: KubernetesBed, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "knative_lambda", "diff", *map(str, arguments)]
    environment = {**os.environ, "KUBECONFIG": str(bed.kubeconfig)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_a_new_an_equal_and_a_changed_function(kubernetes_bed: KubernetesBed, namespace: str, greeting: Path) -> None:
    new = _diff(kubernetes_bed, greeting, "-n", namespace)
    assert (new.returncode, new.stderr) == (1, "")
    assert "+  name: greeting" in new.stdout
    path = f"/apis/lambda.knative.io/v1alpha1/namespaces/{namespace}/lambdafunctions"
    assert kubernetes_bed.api.items(path) == []

    spec = {"source": {"type": "inline", "inline": {"code": "x = 1"}}, "runtime": {"language": "python"}}
    body = {"apiVersion": "lambda.knative.io/v1alpha1", "kind": "LambdaFunction", "metadata": {"name": "greeting"}}
    kubernetes_bed.api.create(path, {**body, "spec": spec})
    equal = _diff(kubernetes_bed, greeting, "-n", namespace)
    assert (equal.returncode, equal.stderr) == (0, "")
    assert equal.stdout == f"0 of 1 functions differ from namespace {namespace}\n"

    greeting.write_text(GREETING + "  scaling: {maxReplicas: 3}\n")
    changed = _diff(kubernetes_bed, greeting, "-n", namespace, "-o", "json")
    assert changed.returncode == 1
    (difference,) = json.loads(changed.stdout)["differences"]
    assert (difference["name"], difference["change"]) == ("greeting", "update")
    assert "-    maxReplicas: 50\n+    maxReplicas: 3" in difference["diff"]
    (stored,) = kubernetes_bed.api.items(path)
    assert stored["spec"]["scaling"]["maxReplicas"] == 50


def test_a_server_that_does_not_answer_is_an_error(tmp_path: Path, greeting: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
    )
    command = [sys.executable, "-m", "knative_lambda", "diff", str(greeting), "--kubeconfig", str(kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kn-lambda: error: ")
    assert done.stderr.count("\n") == 1
