"""RabbitMQ's own topology operator makes queues of objects, and refuses in its own words."""

from __future__ import annotations

import urllib.parse
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.testbed import processes
from tests.testbed.apiclient import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.kubernetes import KubernetesBed
    from tests.testbed.rabbitmq import RabbitMQBed
    from tests.testbed.topology import TopologyOperator

Object = dict[str, Any]


class Topology:
    """Topology objects of one namespace, all in one virtual host of RabbitMQ."""

    def __init__(self, bed: KubernetesBed, namespace: str, *, secret: str, vhost: str) -> None:
        self.api = bed.api
        self.vhost = vhost
        self._root = f"/apis/rabbitmq.com/v1beta1/namespaces/{namespace}"
        self._shared = {"vhost": vhost, "rabbitmqClusterReference": {"connectionSecret": {"name": secret}}}

    def create(self, kind: str, plural: str, **spec: Any) -> str:
        """Create one object called after its kind; returns its path."""
        manifest = {
            "apiVersion": "rabbitmq.com/v1beta1",
            "kind": kind,
            "metadata": {"name": kind.lower()},
            "spec": {**self._shared, **spec},
        }
        self.api.create(f"{self._root}/{plural}", manifest)
        return f"{self._root}/{plural}/{kind.lower()}"

    def queue(self, **spec: Any) -> str:
        return self.create("Queue", "queues", **{"name": "letters", "type": "quorum", "durable": True, **spec})

    def ready(self, path: str) -> Object:
        """The Ready condition for the newest generation, {} before there is one."""
        found = self.api.get(path)
        if found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
            return {}
        return next((one for one in found["status"]["conditions"] if one["type"] == "Ready"), {})

    def await_ready(self, *paths: str) -> None:
        for path in paths:
            processes.wait_until(partial(self._is_ready, path), what=path, timeout=30)

    def _is_ready(self, path: str) -> bool:
        return bool(self.ready(path).get("status") == "True")


@pytest.fixture
def topology(
    kubernetes_bed: KubernetesBed,
    rabbitmq_bed: RabbitMQBed,
    topology_operator: TopologyOperator,
    namespace: str,
    vhost_url: str,
) -> Iterator[Topology]:
    """The test's own objects; deleted at its end, while the operator is there to let go of them."""
    assert rabbitmq_bed is not None
    vhost = urllib.parse.unquote(vhost_url.rpartition("/")[2])
    yield Topology(kubernetes_bed, namespace, secret=topology_operator.connection_secret(namespace), vhost=vhost)
    root = f"/apis/rabbitmq.com/v1beta1/namespaces/{namespace}"
    plurals = ("policies", "bindings", "queues", "exchanges")
    for plural in plurals:
        kubernetes_bed.api.delete(f"{root}/{plural}")
    processes.wait_until(
        lambda: not any(kubernetes_bed.api.items(f"{root}/{plural}") for plural in plurals),
        what="deletion of topology objects",
        timeout=30,
    )


def test_objects_become_ready_and_exist_in_rabbitmq(
    topology: Topology, topology_operator: TopologyOperator, rabbitmq_bed: RabbitMQBed
) -> None:
    topology.await_ready(
        topology.create("Exchange", "exchanges", name="dead", type="topic", durable=True),
        topology.queue(),
        topology.create(
            "Binding",
            "bindings",
            source="dead",
            destination="letters",
            destinationType="queue",
            routingKey="dlq.#",
        ),
        topology.create(
            "Policy",
            "policies",
            name="limits",
            pattern="^letters$",
            applyTo=topology_operator.apply_to,
            definition={"max-length": 50000, "overflow": "drop-head"},
        ),
    )
    quoted = urllib.parse.quote(topology.vhost, safe="")
    bindings = rabbitmq_bed.management("GET", f"/api/exchanges/{quoted}/dead/bindings/source")
    assert [(one["destination"], one["routing_key"]) for one in bindings] == [("letters", "dlq.#")]
    queue = rabbitmq_bed.management("GET", f"/api/queues/{quoted}/letters")
    assert queue["arguments"]["x-queue-type"] == "quorum"
    policy = rabbitmq_bed.management("GET", f"/api/policies/{quoted}/limits")
    assert policy["definition"] == {"max-length": 50000, "overflow": "drop-head"}


def test_an_immutable_change_is_refused_in_its_words(topology: Topology) -> None:
    path = topology.queue()
    topology.await_ready(path)
    with pytest.raises(ApiError, match="cannot be updated"):
        topology.api.merge(path, {"spec": {"durable": False}})


def test_a_secret_without_the_label_is_refused(topology: Topology, namespace: str) -> None:
    plain = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"}, "stringData": {"uri": "http://x"}}
    topology.api.create(f"/api/v1/namespaces/{namespace}/secrets", plain)
    with pytest.raises(ApiError, match="must have label"):
        topology.queue(rabbitmqClusterReference={"connectionSecret": {"name": "plain"}})


def test_what_rabbitmq_refuses_is_told_in_the_condition(topology: Topology) -> None:
    path = topology.create("Policy", "policies", name="odd", pattern=".*", applyTo="queues", definition={"max-rate": 5})

    def refused() -> bool:
        rows = topology.api.get(path).get("status", {}).get("conditions", [])
        return any("not recognised policy settings" in row.get("message", "") for row in rows)

    processes.wait_until(refused, what="a refused policy", timeout=30)


def test_a_killed_operator_refuses_by_its_webhooks_until_it_is_back(
    topology_operator: TopologyOperator, topology: Topology
) -> None:
    topology_operator.kill()
    with pytest.raises(ApiError, match="failed calling webhook"):
        topology.queue()
    topology_operator.start_again()
    topology.await_ready(topology.queue())
