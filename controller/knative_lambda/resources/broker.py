"""The RabbitMQ Broker of a namespace, and the RabbitmqBrokerConfig that says which RabbitMQ is behind it.

Neither has an owner: all functions of the namespace share them, and events may wait in the Broker's queues when the
last function is gone. We write no `delivery`: it could never be changed, Knative fills in the cluster's default, and
where dead letters are kept every Trigger of ours brings its own. Called by reconcile.steps.eventing.
"""

from __future__ import annotations

from dataclasses import dataclass

from knative_lambda.api import kinds, meta
from knative_lambda.api.meta import Key, Kind
from knative_lambda.resources import names
from knative_lambda.resources.child import Manifest

ANNOTATION_CLASS = "eventing.knative.dev/broker.class"
CLASS = "RabbitMQBroker"
COMPONENT = "broker"
DEFAULT_VHOST = "/"


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Which RabbitMQ is behind our Brokers, in the words of its operators: a cluster, or else a Secret."""

    cluster: Key | None = None
    """A RabbitmqCluster."""
    connection_secret: Key | None = None
    """A Secret with uri, username and password."""
    vhost: str = DEFAULT_VHOST


def config(namespace: str, settings: BrokerSettings) -> Manifest:
    """The whole RabbitmqBrokerConfig; one serves every Broker of the namespace."""
    return {**_head(kinds.RABBITMQ_BROKER_CONFIG, Key(namespace, config_name(settings))), "spec": _spec(settings)}


def config_name(settings: BrokerSettings) -> str:
    """What a Broker made by these settings names; one that names something else was made by others."""
    return names.broker_config(_spec(settings))


def manifest(broker: Key, settings: BrokerSettings) -> Manifest:
    """The whole Broker, configured by `config`."""
    made = _head(kinds.BROKER, broker)
    made["metadata"]["annotations"] = {ANNOTATION_CLASS: CLASS}
    reference = {
        "apiVersion": kinds.RABBITMQ_BROKER_CONFIG.api_version,
        "kind": kinds.RABBITMQ_BROKER_CONFIG.kind,
        "name": config_name(settings),
        "namespace": broker.namespace,
    }
    return {**made, "spec": {"config": reference}}


def _head(kind: Kind, key: Key) -> Manifest:
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_COMPONENT: COMPONENT}
    metadata = {"name": key.name, "namespace": key.namespace, "labels": labels}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _spec(settings: BrokerSettings) -> Manifest:
    spec: Manifest = {"rabbitmqClusterReference": _reference(settings), "queueType": "quorum"}
    return spec if settings.vhost == DEFAULT_VHOST else {**spec, "vhost": settings.vhost}


def _reference(settings: BrokerSettings) -> Manifest:
    """With the namespace in both cases: Knative looks for a Secret in the reference's, not in the Broker's."""
    if settings.cluster is not None:
        return {"name": settings.cluster.name, "namespace": settings.cluster.namespace}
    if settings.connection_secret is None:
        raise ValueError("settings.load lets nobody ask for Brokers without a RabbitMQ")
    secret = settings.connection_secret
    return {"namespace": secret.namespace, "connectionSecret": {"name": secret.name}}
