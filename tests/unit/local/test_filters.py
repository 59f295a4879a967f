"""Which events a Trigger gets: what the RabbitMQ Broker would give it, nothing else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from knative_lambda.events import encoding
from knative_lambda.local.messaging.filters import matches

REQUIRED = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.placed"}


def event(**more: Any) -> encoding.Message:
    body = orjson.dumps({**REQUIRED, **more})
    return encoding.unfold(body, {"content-type": "application/cloudevents+json"})


@pytest.mark.parametrize(
    ("wanted", "is_given"),
    [
        ({}, True),
        ({"type": "order.placed"}, True),
        ({"type": "order.paid"}, False),
        ({"type": "order.*"}, False),
        ({"type": "Order.placed"}, False),
        ({"type": ""}, False),
        ({"type": "order.placed", "source": "/shop"}, True),
        ({"type": "order.placed", "source": "/other"}, False),
        ({"subject": "o-1"}, True),
        ({"region": "eu"}, True),
        ({"missing": ""}, False),
        ({"id": "e-1", "specversion": "1.0"}, True),
    ],
)
def test_every_attribute_must_be_there_and_equal(wanted: dict[str, str], is_given: bool) -> None:
    assert matches(wanted, event(subject="o-1", region="eu")) is is_given


def test_what_rabbitmq_cannot_compare_is_not_given_here_either() -> None:
    assert not matches({"datacontenttype": "application/json"}, event(data={}, datacontenttype="application/json"))
    assert not matches({"priority": "1"}, event(priority=1))
    assert not matches({"urgent": "true"}, event(urgent=True))
    assert matches({"priority": "1"}, event(priority="1"))
