"""Names of child objects and image tags: the only place where they are made.

Every name is a pure function of what it identifies, so a controller that died between two writes finds its own work
again. Called by the builders beside it and by reconcile.steps.
"""

from __future__ import annotations

from knative_lambda.api.function import FunctionTrigger, LambdaFunction
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


def image_tag(build_digest: str) -> str:
    """Tag of the built image: 128 bits of the build's identity. People see it; deployment is by digest."""
    return build_digest[:TAG_LENGTH]
