"""The Knative Trigger that brings a Broker's events to a function.

Only exact attributes are written: the RabbitMQ Broker ignores `spec.filters` (api-facts 3.4). Called by
reconcile.steps.triggers.
"""

from __future__ import annotations

from dataclasses import dataclass

from knative_lambda.api import kinds
from knative_lambda.api.function import FunctionTrigger, LambdaFunction
from knative_lambda.api.meta import Key
from knative_lambda.resources import child, names
from knative_lambda.resources.child import Component, Manifest

PARALLELISM = "rabbitmq.eventing.knative.dev/parallelism"
"""Annotation of a Trigger: so many events are delivered at a time; without it one after the other."""


@dataclass(frozen=True, slots=True)
class DeadLetterSink:
    """Our HTTP endpoint that keeps what a function could not take."""

    url: str
    """Where the operations port is reached, without a path and without a trailing slash."""
    retries: int = 5
    """Attempts after the first one, before an event is a dead letter."""
    backoff_seconds: float = 1.0
    """Base of the pauses between them: 2, 4, 8 … times as long."""

    def of(self, function: Key) -> str:
        """Address for one function's dead letters."""
        return f"{self.url}/dead-letters/{function.namespace}/{function.name}"


def manifest(fn: LambdaFunction, wanted: FunctionTrigger, *, sink: DeadLetterSink | None) -> Manifest:
    """The whole Trigger, stamped.

    Without a sink there is no `delivery` at all: a Trigger with its own delivery and no sink loses events, one
    without any inherits the Broker's (api-facts 3.5).
    """
    metadata = child.metadata(fn, name=names.trigger(fn, wanted), component=Component.TRIGGER)
    metadata["annotations"][PARALLELISM] = str(fn.spec.scaling.target_concurrency)
    return child.stamp(
        {
            "apiVersion": kinds.TRIGGER.api_version,
            "kind": kinds.TRIGGER.kind,
            "metadata": metadata,
            "spec": _spec(fn, wanted, sink),
        }
    )


def _spec(fn: LambdaFunction, wanted: FunctionTrigger, sink: DeadLetterSink | None) -> Manifest:
    spec: Manifest = {"broker": wanted.broker, "subscriber": {"ref": _subscriber(fn)}}
    if attributes := wanted.filter.exact():
        spec["filter"] = {"attributes": attributes}
    if sink is not None:
        spec["delivery"] = _delivery(sink, fn.key)
    return spec


def _subscriber(fn: LambdaFunction) -> Manifest:
    return {
        "apiVersion": kinds.SERVICE.api_version,
        "kind": kinds.SERVICE.kind,
        "name": names.service(fn),
        "namespace": fn.metadata.namespace,
    }


def _delivery(sink: DeadLetterSink, function: Key) -> Manifest:
    """By default six attempts in about a minute, then the sink."""
    return {
        "deadLetterSink": {"uri": sink.of(function)},
        "retry": sink.retries,
        "backoffPolicy": "exponential",
        "backoffDelay": f"PT{sink.backoff_seconds:g}S",
    }
