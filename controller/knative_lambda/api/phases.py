"""The phase of a function: a word for people, derived from conditions and never decided upon."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from knative_lambda.api.conditions import Condition, ConditionType, Status, find, is_true


class Phase(StrEnum):
    """Values of status.phase, as the design document names them."""

    PENDING = "Pending"
    """Nothing is known of the source yet."""
    BUILDING = "Building"
    """The source is known and its image is not there yet."""
    DEPLOYING = "Deploying"
    """The image is there and Knative has not made it ready yet."""
    READY = "Ready"
    """The function answers, or is scaled to zero and would."""
    FAILED = "Failed"
    """A person must act; the Ready condition says why."""
    DELETING = "Deleting"
    """The function and its children are going away."""


def derive(conditions: Sequence[Condition], *, deleting: bool) -> Phase:
    """The one phase that these conditions mean."""
    if deleting:
        return Phase.DELETING
    if is_true(conditions, ConditionType.READY):
        return Phase.READY
    ready = find(conditions, ConditionType.READY)
    if ready is not None and ready.status is Status.FALSE:
        return Phase.FAILED
    if is_true(conditions, ConditionType.BUILD_READY):
        return Phase.DEPLOYING
    return Phase.BUILDING if is_true(conditions, ConditionType.SOURCE_READY) else Phase.PENDING
