"""Turns a status change into CloudEvents, and the tombstone of a function into its last ones. Pure.

An id is the digest of what identifies the transition, never of a clock: a controller that dies between the publish and
the status write makes the same events again under the same ids. Called by `report`, and by wiring for tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from knative_lambda.api import meta
from knative_lambda.api.conditions import ConditionType, Reason, find
from knative_lambda.api.events import (
    SOURCE,
    BuildEventData,
    Event,
    EventType,
    FunctionEventData,
    Payload,
    ServiceEventData,
    StatusEventData,
)
from knative_lambda.api.function import BuildStatus, FunctionStatus, ServiceStatus
from knative_lambda.api.meta import Key
from knative_lambda.api.phases import Phase
from knative_lambda.kit import digest
from knative_lambda.resources.observed import FunctionSeen

DATA_LIMIT = 16_384
"""Bytes of an event's data, as the outbox in the status can hold it."""
_DROPPABLE = ("spec", "conditions", "status")
"""Left out of data that is too big, in this order; `truncated` names them."""

_NO_BUILD, _NO_SERVICE = BuildStatus(), ServiceStatus()

BuildWord = Literal["started", "completed", "failed", "timeout", "cancelled", "stopped"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom the events are about."""

    key: Key
    uid: str
    generation: int
    spec: dict[str, Any]
    now: datetime

    def event_id(self, kind: EventType, *parts: object) -> str:
        return digest.short(self.uid, kind.value, *parts, length=32)

    def event(self, kind: EventType, *parts: object, data: Payload, cause: str = "") -> Event:
        """One event; `parts` identify the transition among those of its type."""
        extensions = {
            "lambdacategory": kind.category.value,
            "correlationid": digest.short(self.uid, self.generation, length=32),
        }
        return Event(
            id=self.event_id(kind, *parts),
            type=kind.value,
            source=SOURCE,
            time=self.now,
            data=_clipped(data.model_dump(mode="json", exclude_none=True)),
            subject=str(self.key),
            extensions={**extensions, "causationid": cause} if cause else extensions,
        )


def events(subject: Subject, old: FunctionStatus, new: FunctionStatus) -> list[Event]:
    """What the step from one status to the next means, in the order in which it happened."""
    happened = [*_function(subject, old, new), *_build(subject, old, new), *_service(subject, old, new)]
    happened += _farewell(subject, old, new)
    happened += _phase(subject, old, new, cause=happened[-1].id if happened else "")
    return happened


def vanished(seen: FunctionSeen, now: datetime) -> list[Event]:
    """The last events of a function that was deleted before it had our finalizer.

    `seen` is the informer's last state of it. One that had the finalizer has been announced by `let_go`.
    """
    raw = seen.load()
    metadata = raw.get("metadata") or {}
    if meta.FINALIZER in (metadata.get("finalizers") or ()) or not seen.observed_generation:
        return []
    subject = Subject(seen.key, seen.uid, seen.generation, raw.get("spec") or {}, now)
    service = ((raw.get("status") or {}).get("serviceStatus") or {}).get("serviceName", "")
    return _deleted(subject, service)


def _function(subject: Subject, old: FunctionStatus, new: FunctionStatus) -> Iterator[Event]:
    if new.observed_generation == old.observed_generation:
        return
    data = FunctionEventData(name=subject.key.name, namespace=subject.key.namespace, spec=subject.spec)
    if old.observed_generation == 0:
        yield subject.event(EventType.FUNCTION_CREATED, data=data)
    else:
        yield subject.event(EventType.FUNCTION_UPDATED, subject.generation, data=data)


def _asked(subject: Subject, new: FunctionStatus) -> str:
    """Id of the event that told of the spec which is being carried out."""
    if subject.generation <= 1:
        return subject.event_id(EventType.FUNCTION_CREATED)
    return subject.event_id(EventType.FUNCTION_UPDATED, new.observed_generation)


def _build(subject: Subject, old: FunctionStatus, new: FunctionStatus) -> Iterator[Event]:
    before, after = old.build_status or _NO_BUILD, new.build_status or _NO_BUILD
    tell = _teller(subject)
    asked = _asked(subject, new)
    if before.digest and before.digest != after.digest and not before.completed_at:
        yield tell(EventType.BUILD_CANCELLED, before, "cancelled", asked)
    if not after.digest:
        return
    fresh = after.digest != before.digest
    started = subject.event_id(EventType.BUILD_STARTED, after.digest)
    if fresh:
        begun = after.model_copy(update={"image_uri": "", "error": "", "completed_at": None})
        yield tell(EventType.BUILD_STARTED, begun, "started", asked)
    if after.image_uri and (fresh or not before.image_uri):
        yield tell(EventType.BUILD_COMPLETED, after, "completed", started)
    if after.error and (fresh or not before.error):
        timed_out = _reason(new, ConditionType.BUILD_READY) == Reason.BUILD_TIMEOUT
        kind = EventType.BUILD_TIMEOUT if timed_out else EventType.BUILD_FAILED
        yield tell(kind, after, "timeout" if timed_out else "failed", started)


def _teller(subject: Subject) -> Callable[[EventType, BuildStatus, BuildWord, str], Event]:
    def tell(kind: EventType, build: BuildStatus, word: BuildWord, cause: str) -> Event:
        took = (build.completed_at - build.started_at) if build.completed_at and build.started_at else None
        data = BuildEventData(
            function_name=subject.key.name,
            namespace=subject.key.namespace,
            build_id=build.digest,
            job_name=build.job_name or None,
            image_uri=build.image_uri or None,
            status=word,
            error=build.error or None,
            duration_seconds=took.total_seconds() if took else None,
        )
        return subject.event(kind, build.digest, data=data, cause=cause)

    return tell


def _service(subject: Subject, old: FunctionStatus, new: FunctionStatus) -> Iterator[Event]:
    before, after = old.service_status or _NO_SERVICE, new.service_status or _NO_SERVICE
    if not after.applied_hash or after.applied_hash == before.applied_hash:
        return
    kind = EventType.SERVICE_UPDATED if before.service_name else EventType.SERVICE_CREATED
    data = ServiceEventData(
        service_name=after.service_name,
        namespace=subject.key.namespace,
        url=after.url or None,
        status={"ready": after.ready, "image": new.image},
    )
    build = new.build_status
    cause = subject.event_id(EventType.BUILD_COMPLETED, build.digest) if build else _asked(subject, new)
    yield subject.event(kind, subject.generation, after.applied_hash, data=data, cause=cause)


def _farewell(subject: Subject, old: FunctionStatus, new: FunctionStatus) -> list[Event]:
    if new.phase is not Phase.DELETING or old.phase is Phase.DELETING:
        return []
    return _deleted(subject, old.service_status.service_name if old.service_status else "")


def _deleted(subject: Subject, service: str) -> list[Event]:
    namespace = subject.key.namespace
    about = FunctionEventData(name=subject.key.name, namespace=namespace, spec=subject.spec)
    function = subject.event(EventType.FUNCTION_DELETED, data=about)
    if not service:
        return [function]
    data = ServiceEventData(service_name=service, namespace=namespace)
    return [function, subject.event(EventType.SERVICE_DELETED, data=data, cause=function.id)]


def _phase(subject: Subject, old: FunctionStatus, new: FunctionStatus, *, cause: str) -> Iterator[Event]:
    if new.phase is None or new.transitions == old.transitions:
        return
    data = StatusEventData(
        function_name=subject.key.name,
        namespace=subject.key.namespace,
        phase=new.phase,
        conditions=new.model_dump(mode="json", by_alias=True, include={"conditions"})["conditions"],
    )
    yield subject.event(EventType.STATUS_UPDATED, new.transitions, new.phase.value, data=data, cause=cause)


def _reason(status: FunctionStatus, kind: ConditionType) -> str:
    found = find(status.conditions, kind)
    return found.reason if found else ""


def _clipped(data: dict[str, Any]) -> dict[str, Any]:
    """Data that fits the outbox: big parts are left out by name, for half a JSON document is none."""
    left_out: list[str] = []
    for name in _DROPPABLE:
        if len(digest.canonical(data)) <= DATA_LIMIT:
            break
        if isinstance(data.get(name), dict | list):
            left_out.append(name)
            data = {**{key: value for key, value in data.items() if key != name}, "truncated": left_out}
    return data
