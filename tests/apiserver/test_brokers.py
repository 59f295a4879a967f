"""Brokers that the controller makes, on a real API server with the CRDs of Knative and of its RabbitMQ Broker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knative_lambda.api.meta import Key
from knative_lambda.resources import broker as builder
from knative_lambda.resources.broker import BrokerSettings
from tests.apiserver.conftest import StartOperator
from tests.apiserver.proxy import ApiProxy, Trouble, until_quiet
from tests.apiserver.stage import Stage, condition, inline
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.rabbitmq import RabbitMQBed
from tests.testbed.topology import SECRET_LABEL, TopologyOperator

LISTENING: dict[str, Any] = {"triggers": [{"broker": "default", "filter": {"type": "order.placed"}}]}
ASKED = {
    "KN_LAMBDA_CREATE_BROKERS": "true",
    "KN_LAMBDA_RABBITMQ_SECRET": "rabbitmq-connection",
    "KN_LAMBDA_LEASE_NAMESPACE": "system",
}
BY_CLUSTER = {"KN_LAMBDA_CREATE_BROKERS": "true", "KN_LAMBDA_RABBITMQ_CLUSTER": "rabbitmq/rabbit"}
FOREIGN: dict[str, Any] = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Broker",
    "metadata": {"name": "default", "annotations": {"eventing.knative.dev/broker.class": "MTChannelBasedBroker"}},
    "spec": {},
}


def broker(stage: Stage) -> dict[str, Any]:
    found = stage.api.get(stage.path("brokers", "default"))
    return {part: found.get(part) for part in ("metadata", "spec")}


def configs(stage: Stage) -> list[dict[str, Any]]:
    return stage.list("rabbitmqbrokerconfigs")


def told(fn: Mapping[str, Any]) -> str:
    message: str = condition(dict(fn), "BrokerReady")["message"]
    return message


def test_missing_broker_is_made_once_for_two_functions_and_outlives_them(
    stage: Stage, start_operator: StartOperator, proxy: ApiProxy, tmp_path: Path
) -> None:
    operator = start_operator(kubeconfig=proxy.kubeconfig(tmp_path / "proxied"), environment=ASKED)
    for name in ("orders", "invoices"):
        stage.apply("lambdafunctions", inline(name, **LISTENING))
    for name in ("orders", "invoices"):
        stage.wait_ready(name)
    [config] = configs(stage)
    reference = {"namespace": "system", "connectionSecret": {"name": "rabbitmq-connection"}}
    assert config["spec"] == {"rabbitmqClusterReference": reference, "queueType": "quorum"}
    made = broker(stage)
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "knative-lambda"
    assert "ownerReferences" not in made["metadata"]
    assert made["spec"]["config"]["name"] == config["metadata"]["name"]
    until_quiet(proxy, quiet=1.5, timeout=30)
    asked = {(call.method, call.resource) for call in proxy.calls if "broker" in call.resource and not call.watch}
    assert asked == {("POST", "rabbitmqbrokerconfigs"), ("POST", "brokers"), ("GET", "brokers")}  # one GET: the list
    for name in ("orders", "invoices"):
        stage.delete("lambdafunctions", name)
        stage.wait_gone("lambdafunctions", name)
    assert broker(stage) == made
    assert operator.running


def test_broker_made_by_other_settings_is_told_of_and_not_changed(stage: Stage, start_operator: StartOperator) -> None:
    first = start_operator(environment=ASKED)
    stage.apply("lambdafunctions", inline("orders", **LISTENING))
    assert told(stage.wait_ready("orders")) == ""
    before = broker(stage)
    first.kill()
    start_operator(environment=BY_CLUSTER)

    def mentioned() -> dict[str, Any] | None:
        fn = stage.function("orders")
        return fn if fn and "keeps the RabbitMQ that it was made with" in told(fn) else None

    fn = stage.wait(mentioned, what="a word on the Broker")
    assert condition(fn, "BrokerReady")["status"] == "True"
    assert (broker(stage), len(configs(stage))) == (before, 1)
    stage.delete("brokers", "default")

    def made_anew() -> bool:
        fn = stage.function("orders")
        return fn is not None and told(fn) == "" and condition(fn, "Ready")["status"] == "True"

    stage.wait(made_anew, what="a Broker for the RabbitMQ of today")
    references = {one["metadata"]["name"]: one["spec"]["rabbitmqClusterReference"] for one in configs(stage)}
    assert references[broker(stage)["spec"]["config"]["name"]] == {"name": "rabbit", "namespace": "rabbitmq"}


def test_foreign_broker_is_used_and_not_touched(stage: Stage, start_operator: StartOperator) -> None:
    stage.apply("brokers", FOREIGN)
    before = broker(stage)
    start_operator(environment=ASKED)
    stage.apply("lambdafunctions", inline("orders", **LISTENING))
    assert told(stage.wait_ready("orders")) == ""
    after = broker(stage)
    assert after["spec"] == before["spec"]
    for part in ("uid", "generation", "annotations"):
        assert after["metadata"][part] == before["metadata"][part]
    managers = {one["manager"] for one in after["metadata"]["managedFields"]}
    assert "knative-lambda" not in managers
    assert configs(stage) == []


def test_missing_kind_is_a_condition_and_the_controller_goes_on(
    stage: Stage, start_operator: StartOperator, proxy: ApiProxy, tmp_path: Path
) -> None:
    proxy.trouble(Trouble(lambda call: call.resource == "rabbitmqbrokerconfigs", status=404))
    operator = start_operator(kubeconfig=proxy.kubeconfig(tmp_path / "proxied"), environment=ASKED)
    stage.apply("lambdafunctions", inline("orders", **LISTENING))
    stage.apply("lambdafunctions", inline("plain"))
    fn = stage.wait_reason("orders", "BrokerReady", "KindNotInstalled")
    assert "Broker default could not be written" in told(fn)
    stage.wait_ready("plain")
    until_quiet(proxy, quiet=1.5, timeout=30)
    before = len(proxy.calls)
    time.sleep(3)
    assert [call for call in proxy.calls[before:] if call.is_write] == []  # it is asked again a minute later
    assert stage.list("brokers") == []
    assert operator.running


def test_the_secret_of_another_namespace_opens_rabbitmq_once_its_annotation_says_so(
    stage: Stage,
    kubernetes_bed: KubernetesBed,
    topology_operator: TopologyOperator,
    rabbitmq_bed: RabbitMQBed,
    vhost_url: str,
) -> None:
    """Knative hands the reference on, as it stands, to the Exchange that it makes of a Broker."""
    vhost = vhost_url.rpartition("/")[2]
    home = kubernetes_bed.create_namespace(f"{stage.namespace[:50]}-home")
    secret = topology_operator.connection_secret(home)
    path = f"/api/v1/namespaces/{home}/secrets/{secret}"
    stage.api.merge(path, {"stringData": {"uri": rabbitmq_bed.management_url.removeprefix("http://")}})
    wanted = BrokerSettings(connection_secret=Key(home, secret), vhost=vhost)
    reference = builder.config(stage.namespace, wanted)["spec"]["rabbitmqClusterReference"]
    exchanges = f"/apis/rabbitmq.com/v1beta1/namespaces/{stage.namespace}/exchanges"

    def exchange(name: str) -> dict[str, Any]:
        """As Knative makes it, once the operator has a word on it."""
        spec = {"name": name, "type": "headers", "durable": True, "vhost": vhost, "rabbitmqClusterReference": reference}
        head = {"apiVersion": "rabbitmq.com/v1beta1", "kind": "Exchange", "metadata": {"name": name}}
        stage.api.create(exchanges, {**head, "spec": spec})
        return stage.wait(lambda: condition(stage.api.get(f"{exchanges}/{name}"), "Ready"), what=f"exchange {name}")

    # This operator's webhook looks for the Secret beside the Exchange (its issue 1248); what is in it does not matter.
    empty = {"metadata": {"name": secret, "labels": {SECRET_LABEL: "true"}}, "apiVersion": "v1", "kind": "Secret"}
    stage.apply("secrets", empty)
    refused = exchange("early")
    assert (refused["status"], "topology-allowed-namespaces" in refused["message"]) == ("False", True)
    annotation = {"rabbitmq.com/topology-allowed-namespaces": stage.namespace}
    stage.api.merge(path, {"metadata": {"annotations": annotation}})
    assert exchange("late")["status"] == "True"
    kubernetes_bed.delete_namespace(home)
