"""What memory knows of each kind: schema, subresources, lists that merge by key, fields that may not change.

CustomResourceDefinitions bring their own; built-in kinds are in a small table here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from knative_lambda.api import kinds
from knative_lambda.api.meta import Kind
from knative_lambda.cluster.base import Object
from knative_lambda.cluster.structural import Schema, Structure

_BY_NAME = frozenset({"metadata.name", "metadata.namespace"})


@dataclass(frozen=True, slots=True)
class Definition:
    """One installed kind."""

    kind: Kind
    merge_schema: Schema
    """Which lists are granular, for server-side apply; with metadata."""
    structure: Structure | None = None
    has_status: bool = True
    has_generation: bool = True
    selectable: frozenset[str] = _BY_NAME
    immutable: tuple[str, ...] = ()
    """Fields of spec that no update may change."""
    initial_status: Object = field(default_factory=dict)


def builtins() -> list[Definition]:
    """The kinds that every API server has, as far as this project uses them."""
    return [_builtin(kind) for kind in _BUILTIN]


def plain(kind: Kind) -> Definition:
    """A kind whose schema nobody gave: everything is kept, lists are replaced whole."""
    return Definition(kind, _with_metadata({}))


def of_crd(crd: Object) -> list[Definition]:
    """One definition per served version."""
    spec = crd["spec"]
    return [_of_version(spec, version) for version in spec["versions"] if version.get("served", True)]


def kinds_of_crd(crd: Object) -> Iterable[Kind]:
    return [definition.kind for definition in of_crd(crd)]


def _of_version(spec: Object, version: Object) -> Definition:
    names = spec["names"]
    kind = Kind(spec["group"], version["name"], names["plural"], names["kind"], spec["scope"] == "Namespaced")
    schema = version.get("schema", {}).get("openAPIV3Schema", {"x-kubernetes-preserve-unknown-fields": True})
    fields = {path["jsonPath"].lstrip(".") for path in version.get("selectableFields", [])}
    return Definition(
        kind,
        _with_metadata(schema),
        structure=Structure(schema),
        has_status="status" in version.get("subresources", {}),
        selectable=_BY_NAME | fields,
    )


def _with_metadata(schema: Schema) -> Schema:
    return {**schema, "properties": {**schema.get("properties", {}), "metadata": _METADATA}}


# ---- built-in kinds ----


def _map(*keys: str, **properties: Schema) -> Schema:
    return {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
        "items": {"properties": properties},
    }


def _object(**properties: Schema) -> Schema:
    return {"properties": properties}


_ATOMIC_MAP: Schema = {"x-kubernetes-map-type": "atomic"}
_METADATA = _object(finalizers={"x-kubernetes-list-type": "set"}, ownerReferences=_map("uid"))
_PORTS = _map("containerPort", "protocol", protocol={"default": "TCP"})
_CONTAINERS = _map("name", env=_map("name"), volumeMounts=_map("mountPath"), ports=_PORTS)
_POD = _object(
    containers=_CONTAINERS,
    initContainers=_CONTAINERS,
    volumes=_map("name"),
    imagePullSecrets=_map("name"),
    nodeSelector=_ATOMIC_MAP,
)
_TEMPLATE = _object(spec=_POD)
_CONDITIONS = _object(conditions=_map("type"))

_BUILTIN: dict[Kind, dict[str, Any]] = {
    kinds.JOB: {
        "schema": _object(spec=_object(template=_TEMPLATE), status=_CONDITIONS),
        "immutable": ("template", "selector", "completions", "completionMode"),
    },
    kinds.POD: {
        "schema": _object(spec=_POD, status=_CONDITIONS),
        "selectable": frozenset({"status.phase"}),
        "initial_status": {"phase": "Pending"},
    },
    kinds.NAMESPACE: {
        "has_generation": False,
        "selectable": frozenset({"status.phase"}),
        "initial_status": {"phase": "Active"},
    },
    kinds.SECRET: {"has_status": False, "has_generation": False},
    kinds.CONFIG_MAP: {"has_status": False, "has_generation": False},
    kinds.EVENT: {
        "has_status": False,
        "has_generation": False,
        "selectable": frozenset(
            {"reason", "type", "reportingController"}
            | {f"regarding.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion")}
        ),
    },
    kinds.LEASE: {"has_status": False, "has_generation": False},
    kinds.CUSTOM_RESOURCE_DEFINITION: {"schema": _object(status=_CONDITIONS)},
}


def _builtin(kind: Kind) -> Definition:
    row = _BUILTIN[kind]
    return Definition(
        kind,
        _with_metadata(row.get("schema", {})),
        has_status=row.get("has_status", True),
        has_generation=row.get("has_generation", True),
        selectable=_BY_NAME | row.get("selectable", frozenset()),
        immutable=row.get("immutable", ()),
        initial_status=row.get("initial_status", {}),
    )
