"""Our Triggers and Brokers meet Knative Eventing's own webhook."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage, inline
from tests.testbed.apiclient import ApiError

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
