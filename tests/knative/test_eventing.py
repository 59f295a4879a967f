"""Our Triggers and Brokers meet Knative Eventing's own webhook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage, condition, inline
from tests.testbed.apiclient import ApiError
from tests.testbed.kubernetes import KubernetesBed

Object = dict[str, Any]
EVENTING = "eventing.knative.dev/v1"
FILTER = {"broker": "default", "filter": {"type": "order.placed"}}


def broker(**spec: Any) -> Object:
    """A Broker of the class that the product asks for."""
    annotations = {"eventing.knative.dev/broker.class": "RabbitMQBroker"}
    config = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "RabbitmqBrokerConfig", "name": "default"}
    return {
        "apiVersion": EVENTING,
        "kind": "Broker",
        "metadata": {"name": "default", "annotations": annotations},
        "spec": {"config": config, **spec},
    }


@pytest.fixture
def maker(kubernetes_bed: KubernetesBed, stage: Stage, tmp_path: Path) -> Iterator[Operator]:
    """A controller that makes Brokers."""
    operator = Operator(
        kubeconfig=kubernetes_bed.kubeconfig,
        folder=tmp_path / "maker",
        arguments=("--namespace", stage.namespace, "--no-leader-elect", "--events", "none"),
        environment={"KN_LAMBDA_CREATE_BROKERS": "true", "KN_LAMBDA_RABBITMQ_CLUSTER": "rabbitmq/rabbit"},
    )
    yield operator.start()
    operator.kill()


def test_the_broker_that_the_controller_makes_passes_the_webhook(stage: Stage, maker: Operator) -> None:
    stage.apply("lambdafunctions", inline("orders", triggers=[FILTER]))
    [made] = stage.wait(lambda: stage.list("brokers"), what="a Broker", timeout=60)
    [config] = stage.list("rabbitmqbrokerconfigs")
    assert made["metadata"]["annotations"] == {
        "eventing.knative.dev/broker.class": "RabbitMQBroker",
        "eventing.knative.dev/creator": "admin",  # the webhook was there
        "eventing.knative.dev/lastModifier": "admin",
    }
    name = config["metadata"]["name"]
    reference = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "RabbitmqBrokerConfig", "name": name}
    assert made["spec"]["config"] == {**reference, "namespace": stage.namespace}
    assert made["spec"]["delivery"]["retry"] == 10  # the cluster's default for Brokers that say nothing
    fn = stage.wait_reason("orders", "BrokerReady", "BrokerNotReady")
    assert condition(fn, "BrokerReady")["status"] == "False"
    assert maker.running


def test_a_functions_trigger_passes_the_webhook(stage: Stage, operator: Operator) -> None:
    stage.apply("brokers", broker())
    stage.apply("lambdafunctions", inline("orders", triggers=[FILTER]))
    found: Object = stage.wait(lambda: stage.triggers_of("orders"), what="a Trigger", timeout=60)[0]
    assert found["metadata"]["annotations"]["eventing.knative.dev/creator"] == "admin"  # the webhook was there
    assert found["spec"]["subscriber"]["ref"]["name"] == "orders"
    assert operator.running


def test_a_broker_passes_the_webhook(stage: Stage) -> None:
    delivery = {"retry": 5, "backoffPolicy": "exponential", "backoffDelay": "PT1S"}
    made = stage.apply("brokers", broker(delivery=delivery))
    assert made["spec"]["delivery"] == delivery
    assert made["spec"]["config"]["namespace"] == stage.namespace
    assert made["metadata"]["annotations"]["eventing.knative.dev/creator"] == "admin"


@pytest.mark.parametrize(
    ("delivery", "words"),
    [
        ({"retry": 5, "backoffPolicy": "exponential", "backoffDelay": "1s"}, "backoffDelay"),
        ({"retry": -1}, "retry"),
        ({"backoffPolicy": "sometimes"}, "backoffPolicy"),
    ],
)
def test_a_delivery_that_knative_would_not_take_is_refused(stage: Stage, delivery: Object, words: str) -> None:
    with pytest.raises(ApiError, match=words):
        stage.apply("brokers", broker(delivery=delivery))
