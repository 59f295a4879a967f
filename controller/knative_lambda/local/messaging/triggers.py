"""What local mode reads of Brokers, Triggers and Services, and the statuses that it gives the first two.

Pure. Conditions, reasons and messages are those of Knative Eventing with the RabbitMQ Broker. Called by eventing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Object
from knative_lambda.local.conditions import FALSE, TRUE, UNKNOWN, condition, stamped, with_ready
from knative_lambda.local.messaging import retries
from knative_lambda.local.messaging.delivery import Route
from knative_lambda.local.messaging.retries import Policy
from knative_lambda.resources.trigger import PARALLELISM

MOST_AT_A_TIME = 1000
_BROKER_CONDITIONS = (
    "ExchangeReady",
    "DLXReady",
    "DeadLetterSinkReady",
    "SecretReady",
    "IngressReady",
    "Addressable",
)
_SINK = re.compile(r"^https?://[^/]+/dead-letters/([^/?#]+)/([^/?#]+)$")
"""Our own sink: it says whose dead letters they are."""


@dataclass(frozen=True, slots=True)
class BrokerSeen:
    """A Broker."""

    key: Key
    generation: int
    delivery: Mapping[str, Any]
    status: Mapping[str, Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class TriggerSeen:
    """A Trigger."""

    key: Key
    generation: int
    broker: Key
    wanted: Mapping[str, str]
    subscriber: Key | None
    """Knative Service; None for anything else."""
    delivery: Mapping[str, Any]
    sink: str
    """URI of its dead-letter sink."""
    parallelism: str
    """What the annotation says."""
    status: Mapping[str, Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A Trigger with what it names."""

    broker: BrokerSeen | None
    address: str
    """Of the subscriber; empty while it has none."""
    policy: Policy | None
    parallelism: int = 1
    problem: str = ""
    """Why there is no policy."""


def project_broker(obj: Object) -> BrokerSeen:
    """Keeps a Broker."""
    return BrokerSeen(_key(obj), obj["metadata"].get("generation", 1), _dict(_spec(obj), "delivery"), _status(obj))


def project_trigger(obj: Object) -> TriggerSeen:
    """Keeps a Trigger."""
    key, spec = _key(obj), _spec(obj)
    delivery = _dict(spec, "delivery")
    return TriggerSeen(
        key=key,
        generation=obj["metadata"].get("generation", 1),
        broker=Key(key.namespace, str(spec.get("broker", ""))),
        wanted=_dict(_dict(spec, "filter"), "attributes"),
        subscriber=_subscriber(_dict(spec, "subscriber"), key.namespace),
        delivery=delivery,
        sink=str(_dict(delivery, "deadLetterSink").get("uri", "")),
        parallelism=str(_dict(obj["metadata"], "annotations").get(PARALLELISM, "1")),
        status=_status(obj),
    )


def project_address(obj: Object) -> str | None:
    """Of a Knative Service, the URL that people know it by; None while it has none."""
    status = _status(obj)
    url = status.get("url") or _dict(status, "address").get("url")
    return str(url) if url else None


def resolved(seen: TriggerSeen, broker: BrokerSeen | None, address: str) -> Resolved:
    """A Trigger without a `delivery` of its own inherits its Broker's."""
    delivery = seen.delivery or (broker.delivery if broker is not None else {})
    try:
        return Resolved(broker, address, retries.policy_of(delivery), _parallelism(seen.parallelism))
    except ValueError as error:
        return Resolved(broker, address, None, problem=str(error))


def route(seen: TriggerSeen, found: Resolved) -> Route | None:
    """Where its events go; None while that is not known."""
    if seen.subscriber is None or not found.address or found.policy is None:
        return None
    return Route(
        trigger=seen.key,
        broker=seen.broker,
        wanted=seen.wanted,
        subscriber=seen.subscriber,
        address=found.address,
        policy=found.policy,
        parallelism=found.parallelism,
        function=_function(seen.sink) or seen.subscriber,
    )


def broker_status(seen: BrokerSeen, url: str, now: datetime) -> Object:
    """Always ready: all that a Broker needs is this process. `url` is that of the ingress."""
    conditions = [condition(kind, TRUE) for kind in _BROKER_CONDITIONS]
    return {
        "observedGeneration": seen.generation,
        "conditions": stamped(with_ready(conditions), seen.status, now),
        "address": {"name": "http", "url": url},
    }


def trigger_status(seen: TriggerSeen, found: Resolved, now: datetime) -> Object:
    """Ready once there is somebody to deliver to."""
    conditions = [
        _broker_ready(seen, found),
        condition("DeadLetterSinkResolved", TRUE, "" if seen.sink else "DeadLetterSinkNotConfigured"),
        condition("DependencyReady", TRUE),
        _subscriber_resolved(seen, found),
        _subscription_ready(found),
    ]
    addresses = {"subscriberUri": found.address, "deadLetterSinkUri": seen.sink}
    return {
        "observedGeneration": seen.generation,
        "conditions": stamped(with_ready(conditions), seen.status, now),
        **{name: address for name, address in addresses.items() if address},
    }


def _broker_ready(seen: TriggerSeen, found: Resolved) -> Object:
    if found.broker is not None:
        return condition("BrokerReady", TRUE)
    return condition("BrokerReady", FALSE, "BrokerDoesNotExist", f'Broker "{seen.broker.name}" does not exist')


def _subscriber_resolved(seen: TriggerSeen, found: Resolved) -> Object:
    if found.address:
        return condition("SubscriberResolved", TRUE)
    words = "not found" if seen.subscriber is not None else "local mode delivers to Knative Services only"
    return condition("SubscriberResolved", FALSE, "Unable to get the Subscriber's URI", words)


def _subscription_ready(found: Resolved) -> Object:
    if found.problem:
        return condition("SubscriptionReady", FALSE, "DeliveryInvalid", found.problem)
    if not found.address:
        return condition("SubscriptionReady", UNKNOWN, "SubscriberNotResolved")
    return condition("SubscriptionReady", TRUE)


def _subscriber(subscriber: Mapping[str, Any], namespace: str) -> Key | None:
    """A Knative Service, and no path of it: that is all a function's Trigger asks for."""
    ref = _dict(subscriber, "ref")
    is_service = str(ref.get("apiVersion", "")).startswith("serving.knative.dev/") and ref.get("kind") == "Service"
    if not is_service or subscriber.get("uri", "/") != "/":
        return None
    return Key(ref.get("namespace") or namespace, str(ref.get("name", "")))


def _parallelism(text: str) -> int:
    """Raises ValueError for what the webhook of the RabbitMQ Broker would not take."""
    if not re.fullmatch(r"[1-9]\d{0,3}", text) or int(text) > MOST_AT_A_TIME:
        raise ValueError(f"annotation {PARALLELISM} must be a number from 1 to {MOST_AT_A_TIME}, not {text!r}")
    return int(text)


def _function(sink: str) -> Key | None:
    found = _SINK.match(sink)
    return Key(found[1], found[2]) if found else None


def _key(obj: Object) -> Key:
    return Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _spec(obj: Object) -> Mapping[str, Any]:
    return _dict(obj, "spec")


def _status(obj: Object) -> Mapping[str, Any]:
    return _dict(obj, "status")


def _dict(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that is an object; empty when it is anything else, for no schema was checked."""
    value = of.get(name)
    return value if isinstance(value, dict) else {}
