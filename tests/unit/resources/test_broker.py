"""The Broker of a namespace and its config, to the letter."""

from __future__ import annotations

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.resources import broker, observed
from knative_lambda.resources.broker import BrokerSettings

DEFAULT = Key("shop", "default")
BY_CLUSTER = BrokerSettings(cluster=Key("rabbitmq", "rabbit"))
BY_SECRET = BrokerSettings(connection_secret=Key("knative-lambda", "rabbitmq-connection"))
LABELS = {"app.kubernetes.io/managed-by": "knative-lambda", "lambda.knative.io/component": "broker"}


def test_broker_is_rabbitmqs_and_has_nothing_but_its_config() -> None:
    assert broker.manifest(DEFAULT, BY_CLUSTER) == {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {
            "name": "default",
            "namespace": "shop",
            "labels": LABELS,
            "annotations": {"eventing.knative.dev/broker.class": "RabbitMQBroker"},
        },
        "spec": {
            "config": {
                "apiVersion": "eventing.knative.dev/v1alpha1",
                "kind": "RabbitmqBrokerConfig",
                "name": broker.config_name(BY_CLUSTER),
                "namespace": "shop",
            }
        },
    }


def test_config_asks_for_quorum_queues_in_the_named_cluster() -> None:
    assert broker.config("shop", BY_CLUSTER) == {
        "apiVersion": "eventing.knative.dev/v1alpha1",
        "kind": "RabbitmqBrokerConfig",
        "metadata": {"name": broker.config_name(BY_CLUSTER), "namespace": "shop", "labels": LABELS},
        "spec": {"rabbitmqClusterReference": {"name": "rabbit", "namespace": "rabbitmq"}, "queueType": "quorum"},
    }


def test_config_names_the_secret_with_its_namespace_which_is_not_the_brokers() -> None:
    reference = {"namespace": "knative-lambda", "connectionSecret": {"name": "rabbitmq-connection"}}
    spec = {"rabbitmqClusterReference": reference, "queueType": "quorum", "vhost": "lambda"}
    wanted = BrokerSettings(connection_secret=BY_SECRET.connection_secret, vhost="lambda")
    assert broker.config("shop", wanted)["spec"] == spec


def test_config_is_named_by_what_it_says() -> None:
    others = (
        BY_SECRET,
        BrokerSettings(cluster=Key("rabbitmq", "other")),
        BrokerSettings(BY_CLUSTER.cluster, vhost="x"),
    )
    assert len({broker.config_name(one) for one in (BY_CLUSTER, *others)}) == 4
    assert broker.config_name(BY_CLUSTER) == broker.config_name(BrokerSettings(cluster=Key("rabbitmq", "rabbit")))


def test_nobody_asks_for_a_broker_without_a_rabbitmq() -> None:
    with pytest.raises(ValueError, match="without a RabbitMQ"):
        broker.config("shop", BrokerSettings())


def test_broker_of_ours_is_known_again_and_a_foreign_one_is_not() -> None:
    ours = observed.project_broker(broker.manifest(DEFAULT, BY_CLUSTER))
    assert (ours.is_ours, ours.config) == (True, broker.config_name(BY_CLUSTER))
    foreign = observed.project_broker({"metadata": {"name": "default", "namespace": "shop"}, "spec": {}})
    assert (foreign.is_ours, foreign.config) == (False, "")
