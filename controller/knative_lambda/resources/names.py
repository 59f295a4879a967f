"""Names of child objects and image tags: the only place where they are made.

Every name is a pure function of what it identifies, so a controller that died between two writes finds its own work
again. Called by the builders beside it and by reconcile.steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knative_lambda.api.function import FunctionTrigger, LambdaFunction
from knative_lambda.api.meta import Key
from knative_lambda.kit import digest

TAG_LENGTH = 32


def kaniko_job(fn: LambdaFunction, build_digest: str) -> str:
    """`hello-3f9a0c1b2d`: one Job per function and build.

    The uid is part of it, so that a function deleted and made again never waits for its predecessor's Job to go.
    Function names have at most 52 characters: the result fits the 63 of a label.
    """
    return f"{fn.metadata.name}-{digest.short(fn.metadata.uid, build_digest)}"


def service(fn: LambdaFunction) -> str:
    """The Knative Service has the function's own name: it is part of the function's address."""
    return fn.metadata.name


def trigger(fn: LambdaFunction, wanted: FunctionTrigger) -> str:
    """`hello-91c2…`: named by content, for Broker and filter of a Trigger are immutable; a changed one is a new one."""
    return f"{fn.metadata.name}-{digest.short(wanted.broker, wanted.filter.exact())}"


def broker_config(spec: Mapping[str, Any]) -> str:
    """`knative-lambda-5d2e…`: named by content, for it is immutable; other settings make another one."""
    return f"knative-lambda-{digest.short(spec)}"


def image_tag(build_digest: str) -> str:
    """Tag of the built image: 128 bits of the build's identity. People see it; deployment is by digest."""
    return build_digest[:TAG_LENGTH]


DEAD_LETTER_EXCHANGE = "knative-lambda-dlq-exchange"
"""Topic exchange that dead letters are published to."""
DEAD_LETTER_UNROUTED = "knative-lambda-dlq-unrouted"
"""Its alternate exchange: takes what no function's queue is bound for."""
DEAD_LETTER_QUEUE = "knative-lambda-dlq"
"""The catch-all queue behind the alternate exchange; a function's own queue has this name as its prefix."""


def dead_letter_queue(function: Key) -> str:
    """`knative-lambda-dlq.shop.hello`: neither namespaces nor functions have dots in their names, so it is unambiguous.

    Without the uid: the queue survives its function, and one made again under the name finds it.
    """
    return f"{DEAD_LETTER_QUEUE}.{function.namespace}.{function.name}"


def dead_letter_key(function: Key) -> str:
    """Routing key of a function's dead letters."""
    return f"dlq.{function.namespace}.{function.name}"


def dead_letter_object(function: Key) -> str:
    """`dlq-hello-91c2…`: the topology objects of every namespace are in one, so the namespace is in the digest."""
    return f"dlq-{function.name}-{digest.short(function.namespace, function.name)}"
