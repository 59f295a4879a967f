"""Objects of RabbitMQ's topology operator for dead letters: shared ones, and two for each function.

All are in one namespace, that of the connection's Secret, and have no owner: a function's queue outlives the function
with its letters. Limits are in the Policy, which may change; arguments of a queue may not. Called by
reconcile.topology.
"""

from __future__ import annotations

from dataclasses import dataclass

from knative_lambda.api import kinds, meta
from knative_lambda.api.meta import Key, Kind
from knative_lambda.resources import child, names
from knative_lambda.resources.child import Manifest

TTL_MILLISECONDS = 7 * 24 * 3600 * 1000
"""Dead letters are kept for seven days."""
MAX_LENGTH = 50_000
"""Dead letters of one queue; the oldest go first."""
OVERFLOW = "drop-head"
DELIVERY_LIMIT = 1_000_000
"""RabbitMQ 4 drops a message of a quorum queue after 20 returns unless told otherwise; looking at one returns it."""
POLICY_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class Topology:
    """Where the topology's objects are, and which RabbitMQ they speak of."""

    namespace: str
    vhost: str = "/"
    cluster: Key | None = None
    """A RabbitmqCluster."""
    connection_secret: str = ""
    """Or a Secret of `namespace` with uri, username and password, labelled `rabbitmq.com/topology-operator: "true"`."""


def shared(topology: Topology) -> list[tuple[Kind, Manifest]]:
    """Exchange, alternate exchange, catch-all queue with its binding, and the limits of every queue."""
    exchange, unrouted, queue = names.DEAD_LETTER_EXCHANGE, names.DEAD_LETTER_UNROUTED, names.DEAD_LETTER_QUEUE
    alternate = {"alternate-exchange": unrouted}
    return [
        _object(kinds.POLICY, topology, queue, _policy()),
        _object(kinds.EXCHANGE, topology, unrouted, _exchange(unrouted, "fanout")),
        _object(kinds.EXCHANGE, topology, exchange, {**_exchange(exchange, "topic"), "arguments": alternate}),
        _object(kinds.QUEUE, topology, queue, _queue(queue)),
        _object(kinds.BINDING, topology, queue, _binding(unrouted, queue, key="")),
    ]


def of_function(topology: Topology, function: Key) -> list[tuple[Kind, Manifest]]:
    """The function's own queue, bound to its key."""
    name, queue = names.dead_letter_object(function), names.dead_letter_queue(function)
    binding = _binding(names.DEAD_LETTER_EXCHANGE, queue, key=names.dead_letter_key(function))
    labels = {meta.LABEL_FUNCTION: function.name, child.LABEL_FUNCTION_NAMESPACE: function.namespace}
    return [
        _object(kinds.QUEUE, topology, name, _queue(queue), labels=labels),
        _object(kinds.BINDING, topology, name, binding, labels=labels),
    ]


def _object(
    kind: Kind, topology: Topology, name: str, spec: Manifest, *, labels: dict[str, str] | None = None
) -> tuple[Kind, Manifest]:
    metadata = {
        "name": name,
        "namespace": topology.namespace,
        "labels": {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_COMPONENT: "dead-letters", **(labels or {})},
    }
    whole = {"vhost": topology.vhost, "rabbitmqClusterReference": _reference(topology), **spec}
    return kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": whole}


def _reference(topology: Topology) -> Manifest:
    if topology.cluster is not None:
        return {"name": topology.cluster.name, "namespace": topology.cluster.namespace}
    return {"connectionSecret": {"name": topology.connection_secret}}


def _exchange(name: str, kind: str) -> Manifest:
    return {"name": name, "type": kind, "durable": True, "autoDelete": False}


def _queue(name: str) -> Manifest:
    return {"name": name, "type": "quorum", "durable": True, "autoDelete": False, "deletionPolicy": "retain"}


def _binding(source: str, destination: str, *, key: str) -> Manifest:
    return {"source": source, "destination": destination, "destinationType": "queue", "routingKey": key}


def _policy() -> Manifest:
    """`queues`, not `quorum_queues`, which RabbitMQ before 3.12 does not know; the pattern says which are meant."""
    return {
        "name": names.DEAD_LETTER_QUEUE,
        "pattern": rf"^{names.DEAD_LETTER_QUEUE}(\..+)?$",
        "applyTo": "queues",
        "priority": POLICY_PRIORITY,
        "definition": {
            "message-ttl": TTL_MILLISECONDS,
            "max-length": MAX_LENGTH,
            "overflow": OVERFLOW,
            "delivery-limit": DELIVERY_LIMIT,
        },
    }
