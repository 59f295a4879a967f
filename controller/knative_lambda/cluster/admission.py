"""What an API server checks and fills in before it stores an object. Called by memory; pure but for the clock."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs

from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import ClusterError, Conflict, Invalid, Object
from knative_lambda.cluster.definitions import Definition

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_NAME_LENGTH = 253
_ANNOTATION_BYTES = 256 * 1024
_METADATA_FIELDS = frozenset(
    (
        "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
        "managedFields", "selfLink",
    )
)  # fmt: skip
_OMITTED_WHEN_EMPTY = ("labels", "annotations", "finalizers", "ownerReferences", "generateName")
_TEXT = {"type": "string"}
_TEXTS = {"type": ["object", "null"], "additionalProperties": _TEXT}
_OWNER = {
    "type": "object",
    "required": ["apiVersion", "kind", "name", "uid"],
    "properties": {"apiVersion": _TEXT, "kind": _TEXT, "name": _TEXT, "uid": {"type": "string", "minLength": 1}},
}
_METADATA = jsonschema_rs.Draft4Validator(
    {
        "properties": {
            "name": _TEXT,
            "namespace": _TEXT,
            "labels": _TEXTS,
            "annotations": _TEXTS,
            "finalizers": {"type": ["array", "null"], "items": _TEXT},
            "ownerReferences": {"type": ["array", "null"], "items": _OWNER},
        }
    }
)
_KEPT = (
    "name", "generateName", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "generation", "resourceVersion",
)  # fmt: skip
"""Metadata that only the server writes."""


def envelope(kind: Kind, obj: Object) -> Object:
    """The object with apiVersion and kind, which must fit; metadata must be an object."""
    given = (obj.get("apiVersion", kind.api_version), obj.get("kind", kind.kind))
    if given != (kind.api_version, kind.kind):
        raise Invalid(f"{given[1]} in {given[0]} was sent to {kind.plural} in {kind.api_version}")
    if not isinstance(obj.get("metadata"), dict):
        raise Invalid(f"{kind}: metadata must be given")
    return {"apiVersion": kind.api_version, "kind": kind.kind, **obj}


def completed(definition: Definition, obj: Object, *, strict: bool) -> Object:
    """Pruned, defaulted and validated, in place. `strict` refuses unknown fields instead of dropping them."""
    for name in _OMITTED_WHEN_EMPTY:
        if not obj["metadata"].get(name, True):
            del obj["metadata"][name]
    unknown = [f"metadata.{name}" for name in obj["metadata"] if name not in _METADATA_FIELDS]
    if definition.structure is not None:
        unknown += definition.structure.prune(obj)
        definition.structure.default(obj)
    if strict and unknown:
        fields = ", ".join(f'unknown field "{name}"' for name in unknown)
        raise Invalid(f"strict decoding error: {fields}")
    findings = [*_metadata_findings(obj["metadata"])]
    if definition.structure is not None:
        findings += definition.structure.findings(obj)
    if findings:
        raise invalid(definition.kind, obj, "; ".join(findings))
    return obj


def guard(kind: Kind, key: Key, *, live: dict[str, Any], sent: dict[str, Any]) -> None:
    """Refuses a write that was meant for another version or another object of that name."""
    version, uid = sent.get("resourceVersion"), sent.get("uid")
    if version and version != live["resourceVersion"]:
        raise Conflict(f"{kind} {key}: the object has been modified; apply your changes to the latest version")
    if uid and uid != live["uid"]:
        raise Conflict(f"{kind} {key}: precondition failed: UID {uid}, the object's is {live['uid']}")


def successor(live: Object, wanted: Object) -> Object:
    """`wanted` as the next state of `live`: the server's own metadata stays."""
    kept = {name: live["metadata"][name] for name in _KEPT if name in live["metadata"]}
    given = {name: value for name, value in wanted["metadata"].items() if name not in _KEPT and name != "managedFields"}
    return {**wanted, "metadata": {**given, **kept}}


def advance(definition: Definition, live: Object, new: Object) -> None:
    """Counts a change of the spec, in place; refuses changes that no update may make. For completed objects."""
    if definition.has_generation and _wish(definition, live) != _wish(definition, new):
        new["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
    refusal = _refused_change(definition, live, new)
    if refusal is not None:
        raise refusal


def invalid(kind: Kind, obj: Object, why: str) -> Invalid:
    return Invalid(f'{kind} "{obj["metadata"].get("name", "")}" is invalid: {why}')


def _refused_change(definition: Definition, live: Object, new: Object) -> ClusterError | None:
    for name in definition.immutable:
        if _specified(live, name) != _specified(new, name):
            return invalid(definition.kind, live, f"spec.{name}: field is immutable")
    added = set(new["metadata"].get("finalizers", ())) - set(live["metadata"].get("finalizers", ()))
    if added and "deletionTimestamp" in live["metadata"]:
        return invalid(
            definition.kind, live, "metadata.finalizers: no new finalizers while the object is being deleted"
        )
    return None


def _specified(obj: Object, name: str) -> Any:
    """Built-in kinds have no schema here, so their spec may be anything."""
    spec = obj.get("spec")
    return spec.get(name) if isinstance(spec, dict) else spec


def _wish(definition: Definition, obj: Object) -> Object:
    """What counts as the spec: everything but metadata, and but status where that is a subresource."""
    return {
        name: value
        for name, value in obj.items()
        if name != "metadata" and not (name == "status" and definition.has_status)
    }


def _metadata_findings(metadata: dict[str, Any]) -> list[str]:
    found = [f"metadata: {error.message}" for error in _METADATA.iter_errors(metadata)]
    if found:
        return found
    name = metadata.get("name", "")
    if len(name) > _NAME_LENGTH or not _NAME.fullmatch(name):
        found.append(f"metadata.name: Invalid value: {name[:80]!r}: must be a lowercase RFC 1123 subdomain")
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            found.append(f"metadata.labels: Invalid value: {key}={value[:80]!r}")
    if sum(len(key) + len(value) for key, value in (metadata.get("annotations") or {}).items()) > _ANNOTATION_BYTES:
        found.append(f"metadata.annotations: Too long: must have at most {_ANNOTATION_BYTES} bytes")
    return found
