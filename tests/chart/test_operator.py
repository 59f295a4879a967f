"""The controller's process with the rights of an installed release and no others: from a signed push to Ready."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from aiohttp import web

from knative_lambda.web import dead_letters as route
from tests.apiserver.operator import Operator
from tests.apiserver.proxy import ApiProxy, Call, Trouble
from tests.apiserver.stage import Stage, inline, repository
from tests.apiserver.test_dead_letters import EVENT, FUNCTION, answered, sink_of, wait_queue
from tests.apiserver.test_webhooks import Forge
from tests.apiserver.workdir import WorkingCopy
from tests.chart.conftest import HelmFor
from tests.chart.engine import Helm, Manifest, Values, named, render
from tests.chart.test_render import BROKERS, BY_AMQP, RABBITMQ
from tests.chart.test_rights import token
from tests.testbed.gitserver import GitServer
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.processes import free_port
from tests.testbed.topology import TopologyOperator

_TERMINATED = b"because it is being terminated"
"""Said, with 403, to everybody who makes something in a namespace that is going: earlier tests leave some behind."""


class Gatekeeper(ApiProxy):
    """A proxy that shows the account's token, and remembers what the API server forbade for want of rights."""

    def __init__(self, bed: KubernetesBed, account_token: str) -> None:
        super().__init__(url=bed.url, token=account_token, ca_file=bed.ca_file)
        self.forbidden: list[Call] = []

    async def _forward(self, request: web.Request, call: Call, trouble: Trouble | None) -> web.StreamResponse:
        answer = await super()._forward(request, call, trouble)
        if answer.status in (401, 403) and _TERMINATED not in (getattr(answer, "body", b"") or b""):
            self.forbidden.append(call)
        return answer


class Pod:
    """The controller as its Deployment would run it: its settings file, its account, its ports."""

    def __init__(self, bed: KubernetesBed, manifests: list[Manifest], folder: Path, *, rabbitmq: str = "") -> None:
        """`rabbitmq`: what the Secret that the Deployment names would hold."""
        config = named(manifests, "ConfigMap")
        file = folder / "settings.yaml"
        file.write_text(config["data"]["settings.yaml"])
        self.gate = Gatekeeper(bed, token(bed, config["metadata"]["namespace"]))
        self.gate.start()
        self.webhook_port, self.http_port = free_port(), free_port()
        self.operator = Operator(
            kubeconfig=self.gate.kubeconfig(folder / "kubeconfig"),
            folder=folder / "operator",
            arguments=("--config", str(file)),
            environment={
                "KN_LAMBDA_WEBHOOK_PORT": str(self.webhook_port), "KN_LAMBDA_WEBHOOK_HOST": "127.0.0.1",
                "KN_LAMBDA_HTTP_PORT": str(self.http_port), "KN_LAMBDA_HTTP_HOST": "127.0.0.1",
                **({"KN_LAMBDA_RABBITMQ": rabbitmq} if rabbitmq else {}),
            },
        )  # fmt: skip
        self.operator.start()

    def probe(self, path: str) -> int:
        return httpx.get(f"http://127.0.0.1:{self.http_port}{path}", timeout=10, trust_env=False).status_code

    def close(self) -> None:
        self.operator.kill()
        self.gate.stop()


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    started: list[Pod] = []
    yield started
    for pod in started:
        pod.close()


def github_secret(stage: Stage, forge: Forge) -> None:
    data = {"token": base64.b64encode(forge.token.encode()).decode()}
    stage.apply("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "data": data})


def git_secret(stage: Stage) -> None:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in (("username", "u"), ("password", "p"))}
    stage.apply("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "data": data})


@pytest.mark.parametrize("scope", ["every namespace", "this namespace", "only these secrets"])
def test_from_a_signed_push_to_ready_with_nothing_forbidden_on_the_way(
    kubernetes_bed: KubernetesBed, helm: Helm, stage: Stage, git_server: GitServer, tmp_path: Path,
    pods: list[Pod], scope: str,
) -> None:  # fmt: skip
    values: Values = {} if scope == "every namespace" else {"watchNamespaces": [stage.namespace]}
    if scope == "only these secrets":
        values["rbac"] = {"secretNames": ["git", "hook"]}
    pods.append(Pod(kubernetes_bed, helm.install(values), tmp_path))
    (pod,) = pods
    git_server.create_repository(stage.namespace)
    git_server.require(stage.namespace, user="u", password="p")
    copy = WorkingCopy(tmp_path / "copy", git_server.url(stage.namespace, user="u", password="p"))
    copy.function("first")
    copy.push()
    with httpx.Client(trust_env=False, timeout=20) as client:
        forge = Forge(client, pod.webhook_port)
        github_secret(stage, forge)
        git_secret(stage)
        spec: dict[str, Any] = {
            "interval": "1h",
            "secretRef": {"name": "git"},
            "webhook": {"secretRef": {"name": "hook"}},
        }
        stage.apply("functionrepositories", repository("shop", git_server.url(stage.namespace), **spec))
        stage.apply(
            "lambdafunctions", inline("by-hand", triggers=[{"broker": "default", "filter": {"type": "com.example"}}])
        )
        stage.wait_ready("first", timeout=60)

        copy.function("second")
        copy.remove("functions/first")
        commit = copy.push()
        forge.path = stage.api.get(stage.path("functionrepositories", "shop"))["status"]["webhookPath"]
        assert forge.deliver().status_code == 202
        stage.wait_ready("second", timeout=60)
        stage.wait_gone("lambdafunctions", "first", timeout=60)
    assert commit in json.dumps(stage.api.get(stage.path("functionrepositories", "shop"))["status"])
    assert pod.probe("/livez") == pod.probe("/readyz") == 200
    stage.delete("lambdafunctions", "by-hand")
    stage.wait_gone("lambdafunctions", "by-hand")
    assert [event["reason"] for event in stage.list("events")], "it may write Events"
    assert pod.operator.terminate() == 0
    nothing_was_forbidden(pod)


def nothing_was_forbidden(pod: Pod) -> None:
    """Neither seen at the gate nor told in the log."""
    assert pod.gate.forbidden == []
    told = [line for line in pod.operator.log_file.read_text().lower().splitlines() if "forbidden" in line]
    assert [line for line in told if _TERMINATED.decode() not in line] == []


def dead_letter(pod: Pod, stage: Stage, rabbitmq: str) -> None:
    """Brings one to the address that the Trigger names, and finds it in the function's queue."""
    address = urlsplit(sink_of(stage, "orders"))
    assert address.netloc == f"knative-lambda-operator.{stage.namespace}.svc.cluster.local:{pod.http_port}"
    sink = f"http://127.0.0.1:{pod.http_port}{address.path}"
    assert httpx.post(sink, content=b"{}", headers=EVENT, timeout=20, trust_env=False).status_code == 202
    [shown] = answered(rabbitmq, "show", f"{stage.namespace}/orders")
    assert shown["headers"]["ce-id"] == EVENT["ce-id"]
    metrics = httpx.get(f"http://127.0.0.1:{pod.http_port}/metrics", timeout=10, trust_env=False).text
    counted = f'operator_api_requests_total{{endpoint="{route.PATH}",method="POST",status_code="202"}} 1.0'
    assert counted in metrics, "the alert for what cannot be kept asks for this endpoint"


def test_dead_letters_by_amqp_with_nothing_forbidden_on_the_way(
    kubernetes_bed: KubernetesBed, helm: Helm, stage: Stage, tmp_path: Path, pods: list[Pod], vhost_url: str
) -> None:
    made = helm.install(BY_AMQP | {"watchNamespaces": [stage.namespace]})
    pods.append(Pod(kubernetes_bed, made, tmp_path, rabbitmq=vhost_url))
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    wait_queue(stage, "orders")
    dead_letter(pods[0], stage, vhost_url)
    nothing_was_forbidden(pods[0])


@pytest.mark.parametrize("beside", [True, False], ids=["in the release's namespace", "in a namespace of their own"])
def test_dead_letters_by_the_topology_operator_with_nothing_forbidden_on_the_way(
    kubernetes_bed: KubernetesBed, helm: Helm, stage: Stage, tmp_path: Path, pods: list[Pod], vhost_url: str,
    topology_operator: TopologyOperator, other_namespace: str, beside: bool,
) -> None:  # fmt: skip
    place = stage.namespace if beside else other_namespace
    values: Values = {
        "watchNamespaces": [stage.namespace],
        "rabbitmq": RABBITMQ["rabbitmq"] | {"topologySecret": topology_operator.connection_secret(place)},
        "deadLetters": {"enabled": True, "declare": "operator", "namespace": "" if beside else place},
    }
    pods.append(Pod(kubernetes_bed, helm.install(values), tmp_path, rabbitmq=vhost_url))
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    wait_queue(stage, "orders")
    queues = stage.api.items(f"/apis/rabbitmq.com/v1beta1/namespaces/{place}/queues")
    assert len(queues) == 2, "the function's and the catch-all"
    dead_letter(pods[0], stage, vhost_url)
    nothing_was_forbidden(pods[0])


def test_a_broker_is_made_by_the_rights_of_the_release(
    kubernetes_bed: KubernetesBed, helm: Helm, stage: Stage, tmp_path: Path, pods: list[Pod]
) -> None:
    pods.append(Pod(kubernetes_bed, helm.install(BROKERS | {"watchNamespaces": [stage.namespace]}), tmp_path))
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    stage.wait_ready("orders", timeout=60)
    eventing = f"namespaces/{stage.namespace}"
    (broker,) = stage.api.items(f"/apis/eventing.knative.dev/v1/{eventing}/brokers")
    (config,) = stage.api.items(f"/apis/eventing.knative.dev/v1alpha1/{eventing}/rabbitmqbrokerconfigs")
    assert broker["spec"]["config"]["name"] == config["metadata"]["name"]
    assert config["spec"]["rabbitmqClusterReference"] == {
        "namespace": stage.namespace, "connectionSecret": {"name": "rabbitmq-connection"},
    }  # fmt: skip
    nothing_was_forbidden(pods[0])


def test_the_lease_of_the_release_decides_who_writes(
    kubernetes_bed: KubernetesBed, helm: Helm, stage: Stage, tmp_path: Path, pods: list[Pod]
) -> None:
    made = helm.install({"watchNamespaces": [stage.namespace]})
    (tmp_path / "one").mkdir()
    pods.append(Pod(kubernetes_bed, made, tmp_path / "one"))
    assert pods[0].probe("/readyz") == 200
    lease = stage.api.get(stage.path("leases", "knative-lambda-operator"))
    assert lease["spec"]["holderIdentity"]
    assert pods[0].gate.forbidden == []


def test_the_pod_of_helm_test_passes_beside_a_ready_controller_and_fails_without(
    kubernetes_bed: KubernetesBed, helm: Helm, tmp_path: Path, pods: list[Pod]
) -> None:
    pods.append(Pod(kubernetes_bed, helm.install(), tmp_path))
    test = next(one for one in render(namespace=helm.namespace) if one["kind"] == "Pod")
    (container,) = test["spec"]["containers"]
    (script,) = container["args"]
    address = f"knative-lambda-operator.{helm.namespace}.svc:8080"
    assert address in script

    def run(port: int) -> subprocess.CompletedProcess[str]:
        there = script.replace(address, f"127.0.0.1:{port}")
        command = [sys.executable, *container["command"][1:], there]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    good = run(pods[0].http_port)
    assert (good.returncode, '"ready":true' in good.stdout.replace(" ", "")) == (0, True), good.stderr
    assert run(free_port()).returncode != 0


def test_a_controller_without_its_rights_says_so(
    kubernetes_bed: KubernetesBed, helm_for: HelmFor, namespace: str, tmp_path: Path, pods: list[Pod]
) -> None:
    """The counterpart: the tests above would see a right that is missing."""
    helm = helm_for(namespace)
    made = helm.install({"watchNamespaces": [namespace], "rbac": {"create": False}})
    config = named(made, "ConfigMap")
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(config["data"]["settings.yaml"]) | {"leader_elect": False}))
    gate = Gatekeeper(kubernetes_bed, token(kubernetes_bed, namespace))
    gate.start()
    operator = Operator(
        kubeconfig=gate.kubeconfig(tmp_path / "kubeconfig"),
        folder=tmp_path / "operator",
        arguments=("--config", str(file)),
        environment={"KN_LAMBDA_WEBHOOK_PORT": "0", "KN_LAMBDA_HTTP_PORT": "0"},
    )
    operator.start(wait=False)
    stage = Stage(kubernetes_bed.api, namespace)
    try:
        stage.wait(lambda: len(gate.forbidden) > 5, what="refusals", timeout=30)
        stage.wait(lambda: "forbidden" in operator.log_file.read_text().lower(), what="a word about it")
        assert operator.running, "it waits for its rights"
    finally:
        operator.kill()
        gate.stop()
