"""The world as one reconcile sees it: read once, frozen, all that `decide` knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import FunctionStatus, LambdaFunction
from knative_lambda.api.meta import ObjectMeta
from knative_lambda.events.dead_letters import QueueState
from knative_lambda.reconcile.settled import Settled
from knative_lambda.resources.observed import BrokerSeen, JobSeen, PodSeen, ServiceSeen, TriggerSeen
from knative_lambda.sources.base import Resolution


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Why the source is not resolved; `retry` says whether time may heal it."""

    reason: Reason
    message: str
    retry: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One function and what belongs to it."""

    fn: LambdaFunction
    now: datetime
    resolution: Resolution | SourceProblem | None = None
    """None for a source that needs none: a ready image."""
    jobs: tuple[JobSeen, ...] = ()
    pods: tuple[PodSeen, ...] = ()
    service: ServiceSeen | None = None
    triggers: tuple[TriggerSeen, ...] = ()
    brokers: Mapping[str, BrokerSeen] = field(default_factory=dict)
    """Brokers of the function's namespace that its triggers name, by name; absent ones are not in it."""
    dead_letters: QueueState | None = None
    """The function's dead-letter queue; None where none is asked for."""
    settled: Settled = field(default_factory=Settled)

    @property
    def metadata(self) -> ObjectMeta:
        return self.fn.metadata

    @property
    def status(self) -> FunctionStatus:
        return self.fn.status


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored object whose spec this release does not understand: written before a rule existed, or without a CRD."""

    metadata: ObjectMeta
    status: FunctionStatus
    problem: str
    now: datetime
    jobs: tuple[JobSeen, ...] = ()


Seen = Snapshot | Unreadable
