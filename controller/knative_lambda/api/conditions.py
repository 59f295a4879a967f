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
    """The remote answered and the revision is here."""
    APPLIED = "Applied"
    """Every valid function of the revision is written."""


class Reason(StrEnum):
    """Why a condition has its value. CamelCase, stable, documented in docs/api."""

    # progress
    READY = "Ready"
    """Everything that the spec asks for is there."""
    PENDING = "Pending"
    """Work has not reached this yet."""
    RESOLVED = "Resolved"
    """The source is known down to a digest."""
    RESOLVING = "Resolving"
    """The source's host is being asked what it holds now."""
    BUILDING = "Building"
    """The build Job runs."""
    BUILD_SUCCEEDED = "BuildSucceeded"
    """The image of this source is pushed."""
    IMAGE_GIVEN = "ImageGiven"
    """The source is a ready image, so nothing is built."""
    WAITING_FOR_BUILD = "WaitingForBuild"
    """Goes on as soon as the image is there."""
    DEPLOYED = "Deployed"
    """The Knative Service is written as wanted."""
    DEPLOYING = "Deploying"
    """The Knative Service was just written, or is written next."""
    SERVICE_READY = "ServiceReady"
    """Knative routes traffic to the newest revision."""
    SERVICE_NOT_READY = "ServiceNotReady"
    """Knative has not made the newest revision ready yet; the message is Knative's own."""
    BROKER_READY = "BrokerReady"
    """Every Broker that a trigger names is there and ready."""
    BROKER_NOT_READY = "BrokerNotReady"
    """A Broker that a trigger names is absent or not ready; the function goes on without its events."""
    NO_TRIGGERS = "NoTriggers"
    """The spec asks for no events."""
    TRIGGERS_READY = "TriggersReady"
    """Every Trigger is written and ready."""
    TRIGGERS_NOT_READY = "TriggersNotReady"
    """A Trigger is not ready yet; the message is Knative's own."""
    DLQ_READY = "DLQReady"
    """The function has a dead-letter queue of its own."""
    DLQ_NOT_READY = "DLQNotReady"
    """The dead-letter queue is not there yet; until then dead letters go to the catch-all queue."""
    DELETING = "Deleting"
    """The object is being deleted, and its children with it."""
    SUSPENDED = "Suspended"
    """`spec.suspend` is true: nothing is fetched and nothing is applied."""
    FETCHED = "Fetched"
    """The remote answered and the revision is here."""
    FETCHING = "Fetching"
    """The remote is being asked."""
    APPLIED = "Applied"
    """Every valid function of the revision is written."""
    APPLYING = "Applying"
    """Functions of a new revision are being written."""

    # a person must act
    INVALID_SPEC = "InvalidSpec"
    """The spec breaks a rule; the message names the field."""
    UNKNOWN_RUNTIME = "UnknownRuntime"
    """There is no builder for this language or version; the message lists those that exist."""
    SOURCE_UNSUPPORTED = "SourceUnsupported"
    """This kind of source is not enabled in this controller."""
    SOURCE_NOT_FOUND = "SourceNotFound"
    """The repository, directory, bucket or object does not exist."""
    REF_NOT_FOUND = "RefNotFound"
    """The branch, tag or commit does not exist; the default branch is never taken instead."""
    SOURCE_REFUSED = "SourceRefused"
    """The source's address or content is not allowed: a forbidden network, a link out of the tree, a limit."""
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    """The source's host or the registry refuses the credentials; renew the Secret."""
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a secret
    """A Secret that the spec names, or a key of it, does not exist."""
    IMAGE_NAME_INVALID = "ImageNameInvalid"
    """Registry, namespace and name do not form a valid image name; correct `spec.build.registry`."""
    BUILD_FAILED = "BuildFailed"
    """The build Job failed; the message ends with the last lines of its log."""
    BUILD_TIMEOUT = "BuildTimeout"
    """The build took longer than `spec.build.timeout`."""
    BUILD_UNTRUSTED = "BuildUntrusted"
    """The Job is complete but reported no valid image digest, so nothing is deployed."""
    SERVICE_FAILED = "ServiceFailed"
    """Knative cannot make the Service ready; the message is Knative's own."""
    TRIGGER_FAILED = "TriggerFailed"
    """Knative refuses a Trigger; the message is Knative's own."""
    DLQ_REFUSED = "DLQRefused"
    """RabbitMQ, or its topology operator, refuses the dead-letter queue; the message is its own."""
    NOT_OWNED = "NotOwned"
    """An object with a child's name belongs to somebody else and is left alone; rename one of the two."""
    KIND_NOT_INSTALLED = "KindNotInstalled"
    """The cluster lacks a CRD that is needed, of Knative, its RabbitMQ Broker or RabbitMQ's topology operator."""
    REFUSED = "Refused"
    """The API server refuses what would be written; the message is the server's own."""
    FINDINGS = "Findings"
    """Some files of the revision are wrong; see `status.findings`. Valid functions are applied all the same."""
    PRUNE_GUARDED = "PruneGuarded"
    """The revision would delete most functions; allow it with the annotation `lambda.knative.io/allow-prune`."""
    UNVERIFIED = "Unverified"
    """The commit is not signed by a key that `spec.verify` allows."""

    # the world must change, and is asked again
    UNREACHABLE = "Unreachable"
    """A host does not answer; asked again with growing pauses."""
    WRITE_FAILED = "WriteFailed"
    """The API server did not take a write; tried again with growing pauses."""


class Condition(Seen):
    """One row of status.conditions, shaped as metav1.Condition."""

    type: str = Field(max_length=316)
    """Which condition this is."""
    status: Status
    """Unknown while it is not settled."""
    reason: str = Field(min_length=1, max_length=1024)
    """Why, in one CamelCase word; stable, so that programs may compare it."""
    message: str = Field(default="", max_length=32768)
    """Why, in a sentence for people."""
    last_transition_time: datetime
    """When the status last changed; a new reason or message alone does not count."""
    observed_generation: int = Field(default=0, ge=0)
    """Generation of the spec that this row speaks of."""


_ORDER = tuple(kind.value for kind in ConditionType)


class Conditions:
    """Collects what one reconcile learned; keeps the transition time of what did not change."""

    def __init__(self, before: Iterable[Condition], *, generation: int, now: datetime) -> None:
        self._before = {condition.type: condition for condition in before}
        self._after: dict[str, Condition] = {}
        self._clean: dict[str, str] = {}
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
        return tuple(self._after[kind] for kind in _ORDER if kind in self._after)

    def _mark(self, kind: ConditionType, status: Status, reason: Reason, message: str) -> None:
        before = self._before.get(kind)
        since = before.last_transition_time if before and before.status == status else self._now
        self._after[kind] = Condition(
            type=kind.value,
            status=status,
            reason=reason.value,
            message=self._cleaned(message),
            last_transition_time=since,
            observed_generation=self._generation,
        )

    def _cleaned(self, message: str) -> str:
        """Without secrets and not too long; the same words often stand in several conditions."""
        if message not in self._clean:
            self._clean[message] = redact.clip(redact.text(message), MESSAGE_LIMIT)
        return self._clean[message]


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """The row of that type, if there is one."""
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: ConditionType) -> bool:
    """Whether that row is there and True."""
    found = find(conditions, kind)
    return found is not None and found.status is Status.TRUE
