"""Conditions, their reasons, and the one way to set them.

`Ready` is computed from the others by `Conditions.freeze`; nobody marks it by hand. Called by reconcile.steps and
gitsync; docs/api lists every type and reason from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from knative_lambda.api.meta import Seen
from knative_lambda.kit import redact

MESSAGE_LIMIT = 4096


class Status(StrEnum):
    """The three values of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """Every condition of a LambdaFunction and of a FunctionRepository."""

    READY = "Ready"
    """Everything that the spec asks for is there; scaled to zero is Ready."""
    RECONCILING = "Reconciling"
    """Present and True only while work goes on (kstatus)."""
    STALLED = "Stalled"
    """Present and True only when a person must act (kstatus)."""
    SOURCE_READY = "SourceReady"
    """The source is known down to a digest."""
    BUILD_READY = "BuildReady"
    """The image of this source is built and pushed."""
    DEPLOY_READY = "DeployReady"
    """The Knative Service is written as wanted."""
    SERVICE_READY = "ServiceReady"
    """Knative says that the Service is ready, for the generation we wrote."""
    BROKER_READY = "BrokerReady"
    """Every Broker that a trigger names is there and ready."""
    TRIGGERS_READY = "TriggersReady"
    """Every Trigger is written and ready."""
    DLQ_READY = "DLQReady"
    """The dead-letter queue is there."""
    AI_AGENT_READY = "AIAgentReady"
    """The AI agent's Trigger and service are there."""
    FETCHED = "Fetched"
    """FunctionRepository: the remote answered and the revision is here."""
    APPLIED = "Applied"
    """FunctionRepository: every valid function of the revision is written."""


class Reason(StrEnum):
    """Why a condition has its value. CamelCase, stable, documented in docs/api."""

    # progress
    READY = "Ready"
    PENDING = "Pending"
    RESOLVED = "Resolved"
    RESOLVING = "Resolving"
    BUILDING = "Building"
    BUILD_SUCCEEDED = "BuildSucceeded"
    IMAGE_GIVEN = "ImageGiven"
    WAITING_FOR_BUILD = "WaitingForBuild"
    DEPLOYED = "Deployed"
    DEPLOYING = "Deploying"
    SERVICE_READY = "ServiceReady"
    SERVICE_NOT_READY = "ServiceNotReady"
    BROKER_READY = "BrokerReady"
    BROKER_NOT_READY = "BrokerNotReady"
    NO_TRIGGERS = "NoTriggers"
    TRIGGERS_READY = "TriggersReady"
    TRIGGERS_NOT_READY = "TriggersNotReady"
    DELETING = "Deleting"
    SUSPENDED = "Suspended"
    FETCHED = "Fetched"
    FETCHING = "Fetching"
    APPLIED = "Applied"
    APPLYING = "Applying"

    # a person must act
    INVALID_SPEC = "InvalidSpec"
    UNKNOWN_RUNTIME = "UnknownRuntime"
    SOURCE_UNSUPPORTED = "SourceUnsupported"
    SOURCE_NOT_FOUND = "SourceNotFound"
    REF_NOT_FOUND = "RefNotFound"
    SOURCE_REFUSED = "SourceRefused"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a secret
    IMAGE_NAME_INVALID = "ImageNameInvalid"
    BUILD_FAILED = "BuildFailed"
    BUILD_TIMEOUT = "BuildTimeout"
    BUILD_UNTRUSTED = "BuildUntrusted"
    SERVICE_FAILED = "ServiceFailed"
    TRIGGER_FAILED = "TriggerFailed"
    NOT_OWNED = "NotOwned"
    KIND_NOT_INSTALLED = "KindNotInstalled"
    REFUSED = "Refused"
    FINDINGS = "Findings"
    PRUNE_GUARDED = "PruneGuarded"
    UNVERIFIED = "Unverified"

    # the world must change, and is asked again
    UNREACHABLE = "Unreachable"
    WRITE_FAILED = "WriteFailed"


class Condition(Seen):
    """One row of status.conditions, shaped as metav1.Condition."""

    type: str = Field(max_length=316)
    status: Status
    reason: str = Field(min_length=1, max_length=1024)
    message: str = Field(default="", max_length=32768)
    last_transition_time: datetime
    observed_generation: int = Field(default=0, ge=0)


class Conditions:
    """Collects what one reconcile learned; keeps the transition time of what did not change."""

    def __init__(self, before: Iterable[Condition], *, generation: int, now: datetime) -> None:
        self._before = {condition.type: condition for condition in before}
        self._after: dict[str, Condition] = {}
        self._generation = generation
        self._now = now.replace(microsecond=0)

    def mark_true(self, kind: ConditionType, reason: Reason, message: str = "") -> None:
        self._mark(kind, Status.TRUE, reason, message)

    def mark_false(self, kind: ConditionType, reason: Reason, message: str) -> None:
        self._mark(kind, Status.FALSE, reason, message)

    def mark_unknown(self, kind: ConditionType, reason: Reason, message: str = "") -> None:
        self._mark(kind, Status.UNKNOWN, reason, message)

    def get(self, kind: ConditionType) -> Condition | None:
        """What was marked in this reconcile; the past does not count."""
        return self._after.get(kind)

    def freeze(self) -> tuple[Condition, ...]:
        """Everything marked, in the order of ConditionType. What nobody marked is dropped."""
        order = {kind.value: place for place, kind in enumerate(ConditionType)}
        return tuple(sorted(self._after.values(), key=lambda one: order.get(one.type, len(order))))

    def _mark(self, kind: ConditionType, status: Status, reason: Reason, message: str) -> None:
        before = self._before.get(kind)
        since = before.last_transition_time if before and before.status == status else self._now
        self._after[kind] = Condition(
            type=kind.value,
            status=status,
            reason=reason.value,
            message=redact.clip(redact.text(message), MESSAGE_LIMIT),
            last_transition_time=since,
            observed_generation=self._generation,
        )


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """The row of that type, if there is one."""
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: ConditionType) -> bool:
    """Whether that row is there and True."""
    found = find(conditions, kind)
    return found is not None and found.status is Status.TRUE
