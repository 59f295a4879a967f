"""Objects of the topology operator for dead letters, checked field by field and against its CRDs' promises."""

from __future__ import annotations

import re

import pytest

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.resources import dead_letter, names
from knative_lambda.resources.dead_letter import Topology

ORDERS = Key("shop", "orders")
TOPOLOGY = Topology("knative-lambda", vhost="lambda", cluster=Key("rabbitmq", "rabbit"))
BY_SECRET = Topology("knative-lambda", connection_secret="rabbitmq-connection")
EVERYTHING = [*dead_letter.shared(TOPOLOGY), *dead_letter.of_function(TOPOLOGY, ORDERS)]


def spec(kind: object, name: str) -> dict[str, object]:
    return next(one["spec"] for each, one in EVERYTHING if each == kind and one["metadata"]["name"] == name)


def test_functions_queue_is_durable_and_outlives_its_function() -> None:
    for kind, manifest in EVERYTHING:
        assert "ownerReferences" not in manifest["metadata"]
        if kind == kinds.QUEUE:
            assert manifest["spec"]["deletionPolicy"] == "retain"
            assert manifest["spec"]["type"] == "quorum"
            assert "arguments" not in manifest["spec"]


def test_limits_are_in_the_policy_and_cover_exactly_our_queues() -> None:
    policy = spec(kinds.POLICY, names.DEAD_LETTER_QUEUE)
    assert policy["definition"] == {
        "message-ttl": 604_800_000,
        "max-length": 50_000,
        "overflow": "drop-head",
        "delivery-limit": 1_000_000,
    }
    pattern = re.compile(str(policy["pattern"]))
    assert pattern.search(names.DEAD_LETTER_QUEUE)
    assert pattern.search(names.dead_letter_queue(ORDERS))
    for stranger in ("knative-lambda.trigger.uid", "knative-lambda-dlqs", "x-knative-lambda-dlq"):
        assert not pattern.search(stranger)


def test_functions_key_leads_to_its_queue_and_everything_else_to_the_catch_all() -> None:
    name = names.dead_letter_object(ORDERS)
    assert spec(kinds.QUEUE, name)["name"] == "knative-lambda-dlq.shop.orders"
    bound = spec(kinds.BINDING, name)
    assert (bound["source"], bound["routingKey"]) == ("knative-lambda-dlq-exchange", "dlq.shop.orders")
    exchange = spec(kinds.EXCHANGE, names.DEAD_LETTER_EXCHANGE)
    assert exchange["arguments"] == {"alternate-exchange": names.DEAD_LETTER_UNROUTED}
    assert spec(kinds.BINDING, names.DEAD_LETTER_QUEUE)["source"] == names.DEAD_LETTER_UNROUTED


def test_functions_of_one_name_in_two_namespaces_have_their_own_objects() -> None:
    other = Key("stall", "orders")
    assert names.dead_letter_object(ORDERS) != names.dead_letter_object(other)
    assert names.dead_letter_queue(ORDERS) != names.dead_letter_queue(other)


@pytest.mark.parametrize(
    ("topology", "reference"),
    [
        (TOPOLOGY, {"name": "rabbit", "namespace": "rabbitmq"}),
        (BY_SECRET, {"connectionSecret": {"name": "rabbitmq-connection"}}),
    ],
)
def test_rabbitmq_is_named_in_one_way_only(topology: Topology, reference: dict[str, object]) -> None:
    for _, manifest in [*dead_letter.shared(topology), *dead_letter.of_function(topology, ORDERS)]:
        assert manifest["spec"]["rabbitmqClusterReference"] == reference
        assert manifest["metadata"]["namespace"] == "knative-lambda"
