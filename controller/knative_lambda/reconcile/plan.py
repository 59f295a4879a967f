"""What a reconcile decides: the verdict of each step, the writes in their order, and what the status will say."""

from __future__ import annotations

from dataclasses import dataclass, field

from knative_lambda.api.conditions import Conditions, ConditionType, Reason
from knative_lambda.api.function import BuildStatus, FunctionStatus, Runtime, ServiceStatus, SourceStatus
from knative_lambda.api.meta import Key, Kind
from knative_lambda.resources.child import Manifest
from knative_lambda.sources.base import Resolution


@dataclass(frozen=True, slots=True)
class Go:
    """Nothing is missing here."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The world will change: a watch wakes us, or, where nothing is watched, the clock does after so many seconds."""

    reason: Reason
    message: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """A person must act. `after`: seconds to the next look, only where no watch would tell that somebody did."""

    reason: Reason
    message: str
    after: float | None = None


Verdict = Go | Wait | Stall
GO = Go()


@dataclass(frozen=True, slots=True)
class Create:
    """POST of a child that is never updated (a Job). `condition` is what fails with it."""

    kind: Kind
    manifest: Manifest
    condition: ConditionType


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply. `force` only over a child that was seen to be ours: a stranger's is never taken over."""

    kind: Kind
    manifest: Manifest
    condition: ConditionType
    force: bool


@dataclass(frozen=True, slots=True)
class Share:
    """POST of an object that the functions of a namespace share (a Broker), after those that it needs.

    What is there already stays as it is, whoever made it.
    """

    kind: Kind
    manifest: Manifest
    condition: ConditionType
    needs: tuple[tuple[Kind, Manifest], ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """Removal of a child of ours."""

    kind: Kind
    key: Key
    uid: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Adds our finalizer; what comes after it in the plan needs it."""

    finalizers: tuple[str, ...]
    resource_version: str


ManifestWrite = Create | Apply | Share
Write = ManifestWrite | Delete | Hold


@dataclass(slots=True)
class Draft:
    """What the steps of one `decide` write into; status parts start as they were and are replaced, never edited."""

    conditions: Conditions
    source_status: SourceStatus | None
    build_status: BuildStatus | None
    service_status: ServiceStatus | None
    url: str
    deployed: str
    """Image that the Service runs, for status.image."""
    runtime: Runtime | None = None
    """Set by `spec` when it can be built."""
    resolution: Resolution | None = None
    """Set by `source`."""
    build_digest: str | None = None
    """Set by `build`: the build that this spec asks for; empty when it asks for none; None while it is not known."""
    image: str | None = None
    """Set by `build`: the image to run."""
    serving: bool = False
    """Set by `serve`: a Service of ours is there, or is written by this plan."""
    writes: list[Write] = field(default_factory=list)
    release: bool = False
    """Set by `finalize`: take our finalizer off when everything else is done."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision. `conditions` is still open: `report` adds what went wrong, and Ready."""

    conditions: Conditions
    verdicts: tuple[Verdict, ...]
    status: FunctionStatus
    """The next status without conditions, phase and outbox, supposing that every write succeeds."""
    writes: tuple[Write, ...] = ()
    release: bool = False


def draft_of(status: FunctionStatus, conditions: Conditions) -> Draft:
    """A draft that changes nothing."""
    return Draft(
        conditions=conditions,
        source_status=status.source_status,
        build_status=status.build_status,
        service_status=status.service_status,
        url=status.url,
        deployed=status.image,
    )
