"""What is kept of each object that an informer sees: small, frozen, enough for `decide`.

A project_* function turns an API object into one of these on arrival; children that other people made, of any shape,
are projected too. Called by wiring through machinery.informer. Two children are equal when nothing that `decide` reads
differs: `resource_version` does not count, so a change that does not matter to us is `old == new`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from knative_lambda.api import meta
from knative_lambda.api.conditions import Status
from knative_lambda.api.function import LambdaFunction
from knative_lambda.api.function import parse as parse_function
from knative_lambda.api.meta import Key
from knative_lambda.resources import child, drift
from knative_lambda.resources.child import Owner

MESSAGE_LIMIT = 4096
"""Characters of a message that are kept; a kubelet writes no more."""


@dataclass(frozen=True, slots=True)
class FunctionSeen:
    """A LambdaFunction in the cache: parsed only when it is looked at, for 10,000 of them must fit in memory."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    repository: Key | None
    """The FunctionRepository that owns it, by its labels."""
    raw: bytes
    """The object as JSON, without managedFields."""
    observed_generation: int = 0
    """Generation that its status speaks of; 0 for a function that nobody has looked at yet."""
    brokers: tuple[str, ...] = ()
    """Brokers that its triggers name."""

    def load(self) -> dict[str, Any]:
        """The object as a dict, fresh at every call."""
        loaded: dict[str, Any] = orjson.loads(self.raw)
        return loaded

    def parse(self) -> LambdaFunction:
        """The typed object; raises pydantic.ValidationError when a newer or older release stored something else."""
        return parse_function(self.load())


def project_function(obj: dict[str, Any]) -> FunctionSeen:
    """Keeps a LambdaFunction."""
    metadata = obj["metadata"]
    metadata.pop("managedFields", None)
    labels = metadata.get("labels", {})
    repository = labels.get(meta.LABEL_REPOSITORY)
    namespace = labels.get(meta.LABEL_REPOSITORY_NAMESPACE, metadata.get("namespace", ""))
    return FunctionSeen(
        key=Key(metadata.get("namespace", ""), metadata["name"]),
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        deleting="deletionTimestamp" in metadata,
        repository=Key(namespace, repository) if repository else None,
        raw=orjson.dumps(obj),
        observed_generation=_number(_dict(obj.get("status")).get("observedGeneration")),
        brokers=tuple(sorted(_brokers(obj))),
    )


def _brokers(obj: dict[str, Any]) -> set[str]:
    triggers = _list(_dict(obj.get("spec")).get("triggers"))
    return {name for one in triggers if (name := _text(_dict(one).get("broker")))}


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a child's controller says of it, for the generation that is there now."""

    status: Status = Status.UNKNOWN
    reason: str = ""
    message: str = ""


class JobState(StrEnum):
    """What the conditions of a Job say; its counters say nothing while retries remain."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A build Job."""

    key: Key
    uid: str
    resource_version: str = field(compare=False)
    function: Key
    function_uid: str
    owner: Owner | None
    deleting: bool
    build_digest: str
    state: JobState
    reason: str
    message: str
    created: datetime | None
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How one container ended, and its termination message: the last lines of its log, or what it wrote there."""

    container: str
    exit_code: int
    message: str


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A Pod of a build Job."""

    key: Key
    uid: str
    resource_version: str = field(compare=False)
    function: Key
    job_uid: str
    created: datetime | None
    ends: tuple[ContainerEnd, ...]
    blocked: str
    """Why a container cannot start (image, Secret), in words that stay the same while it is tried again."""

    def end_of(self, container: str) -> ContainerEnd | None:
        """How that container ended, if it did."""
        return next((end for end in self.ends if end.container == container), None)


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """A Knative Service, ours or not."""

    key: Key
    uid: str
    resource_version: str = field(compare=False)
    function: Key
    function_uid: str
    owner: Owner | None
    deleting: bool
    applied_hash: str
    content: bytes
    """`drift.packed`: labels, annotations and spec as JSON."""
    readiness: Readiness
    url: str
    address: str
    revision: str


@dataclass(frozen=True, slots=True)
class TriggerSeen:
    """A Trigger, ours or not."""

    key: Key
    uid: str
    resource_version: str = field(compare=False)
    function: Key
    function_uid: str
    owner: Owner | None
    deleting: bool
    applied_hash: str
    content: bytes
    readiness: Readiness


@dataclass(frozen=True, slots=True)
class BrokerSeen:
    """A Broker, which nobody changes once it is there."""

    key: Key
    uid: str
    resource_version: str = field(compare=False)
    readiness: Readiness
    is_ours: bool = False
    """Whether a controller of ours made it."""
    config: str = ""
    """Name of the object that configures it."""


def project_job(obj: dict[str, Any]) -> JobSeen:
    """Keeps a Job."""
    state, condition = _job_state(obj)
    metadata = _dict(obj.get("metadata"))
    return JobSeen(
        key=_key(obj),
        uid=_text(metadata.get("uid")),
        resource_version=_text(metadata.get("resourceVersion")),
        function=_function(obj),
        function_uid=_label(obj, child.LABEL_FUNCTION_UID),
        owner=_owner(obj),
        deleting="deletionTimestamp" in metadata,
        build_digest=_text(_dict(metadata.get("annotations")).get(meta.ANNOTATION_BUILD)),
        state=state,
        reason=_text(condition.get("reason")),
        message=_message(condition.get("message")),
        created=_time(metadata.get("creationTimestamp")),
        ended=_time(condition.get("lastTransitionTime")),
    )


def project_pod(obj: dict[str, Any]) -> PodSeen:
    """Keeps a build Pod."""
    metadata = _dict(obj.get("metadata"))
    owner = _owner(obj)
    return PodSeen(
        key=_key(obj),
        uid=_text(metadata.get("uid")),
        resource_version=_text(metadata.get("resourceVersion")),
        function=_function(obj),
        job_uid=owner.uid if owner is not None and (owner.group, owner.kind) == ("batch", "Job") else "",
        created=_time(metadata.get("creationTimestamp")),
        ends=tuple(_container_ends(obj)),
        blocked=next(_blocked(obj), ""),
    )


def project_service(obj: dict[str, Any]) -> ServiceSeen:
    """Keeps a Knative Service."""
    metadata, status = _dict(obj.get("metadata")), _dict(obj.get("status"))
    return ServiceSeen(
        key=_key(obj),
        uid=_text(metadata.get("uid")),
        resource_version=_text(metadata.get("resourceVersion")),
        function=_function(obj),
        function_uid=_label(obj, child.LABEL_FUNCTION_UID),
        owner=_owner(obj),
        deleting="deletionTimestamp" in metadata,
        applied_hash=_text(_dict(metadata.get("annotations")).get(meta.ANNOTATION_APPLIED)),
        content=drift.packed(obj),
        readiness=_readiness(obj, cause="ConfigurationsReady"),
        url=_text(status.get("url")),
        address=_text(_dict(status.get("address")).get("url")),
        revision=_text(status.get("latestReadyRevisionName")),
    )


def project_trigger(obj: dict[str, Any]) -> TriggerSeen:
    """Keeps a Trigger."""
    metadata = _dict(obj.get("metadata"))
    return TriggerSeen(
        key=_key(obj),
        uid=_text(metadata.get("uid")),
        resource_version=_text(metadata.get("resourceVersion")),
        function=_function(obj),
        function_uid=_label(obj, child.LABEL_FUNCTION_UID),
        owner=_owner(obj),
        deleting="deletionTimestamp" in metadata,
        applied_hash=_text(_dict(metadata.get("annotations")).get(meta.ANNOTATION_APPLIED)),
        content=drift.packed(obj),
        readiness=_readiness(obj),
    )


def project_broker(obj: dict[str, Any]) -> BrokerSeen:
    """Keeps a Broker."""
    metadata = _dict(obj.get("metadata"))
    return BrokerSeen(
        key=_key(obj),
        uid=_text(metadata.get("uid")),
        resource_version=_text(metadata.get("resourceVersion")),
        readiness=_readiness(obj),
        is_ours=_label(obj, meta.LABEL_MANAGED_BY) == meta.MANAGED_BY,
        config=_text(_dict(_dict(obj.get("spec")).get("config")).get("name")),
    )


def _job_state(obj: dict[str, Any]) -> tuple[JobState, dict[str, Any]]:
    """Complete and Failed are final; FailureTarget and SuccessCriteriaMet come before them and are not."""
    for kind, state in (("Complete", JobState.COMPLETE), ("Failed", JobState.FAILED)):
        condition = _condition(obj, kind)
        if condition.get("status") == Status.TRUE.value:
            return state, condition
    return JobState.RUNNING, {}


def _readiness(obj: dict[str, Any], *, cause: str = "Ready") -> Readiness:
    """`Ready` counts only for the generation that its controller has seen.

    `cause` names the condition that says why better than Ready does, when it is False too: of a Service whose first
    revision fails, Ready only says that there is no revision.
    """
    generation = _dict(obj.get("metadata")).get("generation", 0)
    if _dict(obj.get("status")).get("observedGeneration", generation) != generation:
        return Readiness()
    condition = _condition(obj, "Ready")
    told = condition.get("status")
    status = Status(told) if told in (Status.TRUE.value, Status.FALSE.value) else Status.UNKNOWN
    if status is not Status.FALSE:
        return Readiness(status=status)
    deeper = _condition(obj, cause)
    told_by = deeper if deeper.get("status") == Status.FALSE.value else condition
    return Readiness(status, _text(told_by.get("reason")), _message(told_by.get("message")))


def _condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = _list(_dict(obj.get("status")).get("conditions"))
    return next((_dict(one) for one in conditions if _dict(one).get("type") == kind), {})


def _container_statuses(obj: dict[str, Any]) -> Iterator[dict[str, Any]]:
    status = _dict(obj.get("status"))
    for part in ("initContainerStatuses", "containerStatuses"):
        yield from (_dict(one) for one in _list(status.get(part)))


def _container_ends(obj: dict[str, Any]) -> Iterator[ContainerEnd]:
    for one in _container_statuses(obj):
        ended = _dict(_dict(one.get("state")).get("terminated"))
        exit_code = ended.get("exitCode")
        if isinstance(exit_code, int):
            yield ContainerEnd(_text(one.get("name")), exit_code, _message(ended.get("message")))


_BLOCKED = {
    "ErrImagePull": "its image cannot be pulled",
    "ImagePullBackOff": "its image cannot be pulled",
    "InvalidImageName": "its image name is invalid",
    "CreateContainerConfigError": "its configuration is missing something",
    "CreateContainerError": "the container cannot be created",
}


def _blocked(obj: dict[str, Any]) -> Iterator[str]:
    for one in _container_statuses(obj):
        reason = _text(_dict(_dict(one.get("state")).get("waiting")).get("reason"))
        if reason in _BLOCKED:
            yield f"container {_text(one.get('name'))}: {_BLOCKED[reason]}"


def _owner(obj: dict[str, Any]) -> Owner | None:
    for reference in _list(_dict(obj.get("metadata")).get("ownerReferences")):
        one = _dict(reference)
        if one.get("controller") is True:
            group = _text(one.get("apiVersion")).rpartition("/")[0]
            return Owner(group, _text(one.get("kind")), _text(one.get("name")), _text(one.get("uid")))
    return None


def _function(obj: dict[str, Any]) -> Key:
    """The function that a child says it belongs to; for a foreign object, the one that would have its name."""
    key = _key(obj)
    namespace = _label(obj, child.LABEL_FUNCTION_NAMESPACE) or key.namespace
    return Key(namespace, _label(obj, meta.LABEL_FUNCTION) or key.name)


def _key(obj: dict[str, Any]) -> Key:
    metadata = _dict(obj.get("metadata"))
    return Key(_text(metadata.get("namespace")), _text(metadata.get("name")))


def _label(obj: dict[str, Any], name: str) -> str:
    return _text(_dict(_dict(obj.get("metadata")).get("labels")).get(name))


def _message(value: Any) -> str:
    return _text(value)[-MESSAGE_LIMIT:].strip()


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
