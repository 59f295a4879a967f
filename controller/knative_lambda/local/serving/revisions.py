"""What a Knative Service asks for, read once from the object. Called by server for every Service that it hears of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from knative_lambda.api import quantity
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Object
from knative_lambda.kit import digest, duration
from knative_lambda.local.serving.scaling import Scale

DEFAULT_TIMEOUT = 300.0
"""Seconds that one request may take when the Service does not say; Knative's own default."""
DEFAULT_TARGET = 100
"""Knative's default of requests at once per instance."""
LONGEST_TIMEOUT = 3600.0
RESERVED = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
"""Variables that the server sets itself."""

_SCALING = "autoscaling.knative.dev/"


@dataclass(frozen=True, slots=True)
class Reference:
    """One key of a Secret or ConfigMap in the Service's namespace."""

    name: str
    key: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable; at most one of the two references is given."""

    name: str
    value: str = ""
    secret: Reference | None = None
    config_map: Reference | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """What every instance of one revision is started with. Bytes and processors are 0 where nothing is asked for."""

    image: str
    variables: tuple[Variable, ...]
    scale: Scale
    hard_limit: int
    """containerConcurrency: requests at once that one instance is given at most; 0 is no limit."""
    grace: float | None
    """Seconds without a request after which the last instance ends; None is the server's default."""
    timeout: float
    """Seconds that one request may take."""
    memory: int
    processors: int
    """Whole ones: a part of one is rounded up."""
    scratch: int
    """Bytes that the instance may write to its temporary folder."""
    identity: str
    """Digest of the template: another one is another revision."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Knative Service as the informer keeps it."""

    key: Key
    uid: str
    generation: int
    template: Template | None
    """None when the Service cannot be run; `problem` says why."""
    problem: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)


def project(obj: Object) -> Wanted | None:
    """None, as if it were gone, for a Service that is being deleted."""
    metadata = obj["metadata"]
    if "deletionTimestamp" in metadata:
        return None
    template, problem = None, ""
    try:
        template = parse(obj)
    except ValueError as error:
        problem = str(error)
    return Wanted(
        key=Key(metadata.get("namespace", ""), metadata["name"]),
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        template=template,
        problem=problem,
        status=_mapping(obj.get("status")),
    )


def parse(obj: Object) -> Template:
    """Raises ValueError, with the field's name, for what cannot be run."""
    template = _mapping(_mapping(obj.get("spec")).get("template"))
    pod = _mapping(template.get("spec"))
    containers = pod.get("containers")
    if not isinstance(containers, list) or len(containers) != 1:
        raise ValueError("spec.template.spec.containers: local mode runs exactly one container")
    container = _mapping(containers[0])
    image = container.get("image")
    if not isinstance(image, str) or not image:
        raise ValueError("spec.template.spec.containers[0].image: missing")
    annotations = _mapping(_mapping(template.get("metadata")).get("annotations"))
    hard_limit = _count(pod.get("containerConcurrency"), 0, "containerConcurrency")
    limits = _mapping(_mapping(container.get("resources")).get("limits"))
    retention = annotations.get(f"{_SCALING}scale-to-zero-pod-retention-period")
    return Template(
        image=image,
        variables=tuple(_variables(container)),
        scale=_scale(annotations, hard_limit),
        hard_limit=hard_limit,
        grace=None if retention is None else float(duration.seconds(str(retention))),
        timeout=min(LONGEST_TIMEOUT, _count(pod.get("timeoutSeconds"), 0, "timeoutSeconds") or DEFAULT_TIMEOUT),
        memory=_bytes(limits.get("memory")),
        processors=math.ceil(_amount(limits.get("cpu"), "processors")),
        scratch=_scratch(pod),
        identity=digest.digest(template),
    )


def _scale(annotations: Mapping[str, Any], hard_limit: int) -> Scale:
    target = _count(annotations.get(f"{_SCALING}target"), hard_limit or DEFAULT_TARGET, f"{_SCALING}target")
    return Scale(
        least=_count(annotations.get(f"{_SCALING}min-scale"), 0, f"{_SCALING}min-scale"),
        most=_count(annotations.get(f"{_SCALING}max-scale"), 0, f"{_SCALING}max-scale"),
        target=max(1, target),
    )


def _variables(container: Mapping[str, Any]) -> list[Variable]:
    listed = container.get("env") or []
    if not isinstance(listed, list):
        raise ValueError("spec.template.spec.containers[0].env: not a list")  # noqa: TRY004 - data, not our call
    return [_variable(_mapping(one)) for one in listed]


def _variable(given: Mapping[str, Any]) -> Variable:
    name, value = given.get("name"), given.get("value", "")
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise ValueError(f"env: {name!r} is no name of a variable")
    if name in RESERVED:
        raise ValueError(f"env {name}: is set by Knative and cannot be given")
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"env {name}: its value is not text")
    source = _mapping(given.get("valueFrom"))
    return Variable(name, value, _reference(source, "secretKeyRef"), _reference(source, "configMapKeyRef"))


def _reference(source: Mapping[str, Any], kind: str) -> Reference | None:
    if kind not in source:
        return None
    given = _mapping(source[kind])
    return Reference(str(given.get("name", "")), str(given.get("key", "")), given.get("optional") is True)


def _scratch(pod: Mapping[str, Any]) -> int:
    """The limit of the emptyDir that the function writes to."""
    volumes = pod.get("volumes")
    listed = volumes if isinstance(volumes, list) else []
    return max((_bytes(_mapping(_mapping(one).get("emptyDir")).get("sizeLimit")) for one in listed), default=0)


def _bytes(given: object) -> int:
    return int(_amount(given, "bytes"))


def _amount(given: object, unit: str) -> Decimal:
    """0 for none."""
    amount = Decimal(0) if given is None else quantity.parse(str(given))
    if not Decimal(0) <= amount < Decimal(2) ** 62:
        raise ValueError(f"{given!r} is no amount of {unit}")
    return amount


def _count(given: object, default: int, name: str) -> int:
    """Annotations are text, fields are numbers; `1.5` requests at once are 1."""
    if given is None or given == "":
        return default
    try:
        count = int(float(str(given)))
    except (ValueError, OverflowError):
        raise ValueError(f"{name}: {given!r} is not a number") from None
    if count < 0:
        raise ValueError(f"{name}: {given!r} is negative")
    return count


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
