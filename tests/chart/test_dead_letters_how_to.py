"""docs/how-to/dead-letters.md: every command, in its order, on a release with its rights and a real RabbitMQ."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.apiserver.stage import Stage, inline
from tests.apiserver.test_dead_letters import EVENT, FUNCTION, Mended, sink_of
from tests.chart.engine import CORE, Helm, Values, helm_command, named
from tests.chart.test_operator import Pod, nothing_was_forbidden
from tests.testbed import assets
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.kubernetes import KubernetesBed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "dead-letters.md"
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export .*$", re.MULTILINE)
_COMMAND = re.compile(r"^(helm|kubectl|kn-lambda)\b", re.MULTILINE)

BEFORE: Values = CORE | {"rabbitmq": {"existingSecret": {"name": "rabbitmq-url"}}}
"""The release that the page begins with."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a shell who types what the page says, with the names of this test."""

    folder: Path
    kubeconfig: Path
    names: dict[str, str]

    def types(self, block: str, *, exports: str) -> str:
        """What was printed; everything must succeed."""
        text = f"{exports}\n{block}"
        for theirs, ours in self.names.items():
            text = text.replace(theirs, ours)
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=os.environ | {"PATH": path, "KUBECONFIG": str(self.kubeconfig)},
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def has(self, name: str, script: str) -> None:
        file = self.folder / name
        file.write_text(script)
        file.chmod(0o755)


@pytest.fixture
def person(kubernetes_bed: KubernetesBed, helm: Helm, other_namespace: str, vhost_url: str, tmp_path: Path) -> Person:
    """The release is in `other_namespace`'s neighbour; the RabbitmqCluster of section 5 would be in the other one."""
    try:
        kubectl = assets.kubectl()
    except Unavailable as gap:
        give_up(gap.reason)
    folder = tmp_path / "bin"
    folder.mkdir()
    names = {
        "-n knative-lambda": f"-n {helm.namespace}",
        "-n shop": f"-n {helm.namespace}",
        "shop/": f"{helm.namespace}/",
        "cluster.namespace=rabbitmq": f"cluster.namespace={other_namespace}",
        "amqp://user:password@localhost:5672/": vhost_url,
    }
    found = Person(folder, kubernetes_bed.kubeconfig, names)
    found.has("kubectl", f'#!/bin/sh\nexec "{kubectl}" "$@"\n')
    found.has("kn-lambda", f'#!/bin/sh\nexec "{sys.executable}" -m knative_lambda "$@"\n')
    helm_command(folder, kubernetes_bed.kubeconfig)
    return found


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    started: list[Pod] = []
    yield started
    for pod in started:
        pod.close()


def page() -> tuple[list[str], str]:
    """The blocks of commands, and what they export."""
    blocks = _SHELL.findall(PAGE.read_text())
    return blocks, "\n".join(line for block in blocks for line in _EXPORT.findall(block))


def test_every_block_that_begins_with_a_command_is_run() -> None:
    blocks, exports = page()
    every = re.findall(r"^```[a-z]*\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert [block for block in every if _COMMAND.search(block)] == blocks
    assert exports == "export KN_LAMBDA_RABBITMQ=amqp://user:password@localhost:5672/"


def test_the_commands_of_the_page_work_as_they_stand(
    kubernetes_bed: KubernetesBed, helm: Helm, stage: Stage, person: Person, vhost_url: str, tmp_path: Path,
    pods: list[Pod],
) -> None:  # fmt: skip
    blocks, exports = page()
    enable, ready, look, by_name, replay, purge, by_cluster, by_secret, objects = blocks
    stage.apply("secrets", secret("rabbitmq-url", url=vhost_url))
    before = BEFORE | {"watchNamespaces": [stage.namespace]}
    manifests = helm.install(before)

    person.types(enable, exports=exports)
    settings = stage.api.get(stage_path(stage, "configmaps", "knative-lambda-operator"))["data"]["settings.yaml"]
    assert yaml.safe_load(settings)["dead_letters"] == "amqp"
    named(manifests, "ConfigMap")["data"]["settings.yaml"] = settings
    pods.append(Pod(kubernetes_bed, manifests, tmp_path, rabbitmq=vhost_url))
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    said = person.types(ready, exports=exports)
    assert "condition met" in said
    assert '"reason":"DLQReady"' in said

    stage.wait_reason("orders", "ServiceReady", "ServiceReady")
    park(stage, pods[0], 6)
    said = person.types(look, exports=exports)
    assert re.search(rf"^{stage.namespace}/orders +6  True$", said, re.MULTILINE)
    assert "ce-knativeerrorcode: 500" in said
    said = person.types(by_name, exports=exports)
    assert re.search(rf"^{stage.namespace}/gone +no queue$", said, re.MULTILINE)

    mended = Mended()
    with mended.served() as url:
        answer_at(stage, "orders", url)
        said = person.types(replay, exports=exports).splitlines()
    assert said == [f"6 letters would be sent to {url}", "1 delivered, 0 left", "5 delivered, 0 left"]
    assert sorted(headers["ce-id"] for headers, _ in mended.taken) == [f"order-{number}" for number in range(6)]
    assert not any("knative" in name for headers, _ in mended.taken for name in headers)

    park(stage, pods[0], 2)
    assert person.types(purge, exports=exports) == "2 removed\n"
    nothing_was_forbidden(pods[0])

    person.types(by_cluster, exports=exports)
    assert chosen(stage)["rabbitmq_cluster"] == f"{person.names['cluster.namespace=rabbitmq'].partition('=')[2]}/main"
    helm.upgrade(before)
    assert "labeled" in person.types(by_secret, exports=exports)
    assert chosen(stage)["rabbitmq_secret"] == "rabbitmq-connection"
    uri = stage.api.get(stage.path("secrets", "rabbitmq-connection"))["data"]["uri"]
    assert base64.b64decode(uri) == b"rabbitmq.rabbitmq.svc:15672", "without a scheme it serves Brokers, too"
    person.types(objects, exports=exports)


def secret(name: str, **texts: str) -> dict[str, Any]:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def stage_path(stage: Stage, plural: str, name: str) -> str:
    return f"/api/v1/namespaces/{stage.namespace}/{plural}/{name}"


def chosen(stage: Stage) -> dict[str, Any]:
    """The settings of the release as it is now."""
    found = stage.api.get(stage_path(stage, "configmaps", "knative-lambda-operator"))["data"]["settings.yaml"]
    settings: dict[str, Any] = yaml.safe_load(found)
    return settings


def park(stage: Stage, pod: Pod, count: int) -> None:
    """What Knative would send to the sink of the function's Trigger."""
    sink = f"http://127.0.0.1:{pod.http_port}{urlsplit(sink_of(stage, 'orders')).path}"
    for number in range(count):
        headers = EVENT | {"ce-id": f"order-{number}"}
        assert httpx.post(sink, content=b"{}", headers=headers, timeout=20, trust_env=False).status_code == 202


def answer_at(stage: Stage, name: str, url: str) -> None:
    """Knative says that the function answers there."""
    stage.api.merge(f"{stage.path('services', name)}/status", {"status": {"url": url}})

    def told() -> bool:
        fn = stage.function(name)
        return fn is not None and fn["status"].get("url") == url

    stage.wait(told, what=json.dumps({"url": url}))
