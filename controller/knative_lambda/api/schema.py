"""JSON Schemas for people's files: function.yaml, FunctionRepository manifests and event payloads.

Written to schemas/ by `kn-lambda schemas`; gitsync validates with `function_schema`, editors complete with it.
"""

from __future__ import annotations

from typing import Any

from knative_lambda.api import events
from knative_lambda.api.function import FunctionSpec, SourceType
from knative_lambda.api.meta import API_VERSION, NAME_LENGTH, NAME_PATTERN
from knative_lambda.api.repository import RepositorySpec

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def function_schema() -> Schema:
    """A function.yaml: a LambdaFunction whose source may be left out, for then it is the directory itself."""
    spec = FunctionSpec.model_json_schema(by_alias=True)
    spec["required"] = [name for name in spec.get("required", []) if name != "source"]
    definitions = _tidied(spec.pop("$defs"))
    _name_the_member(definitions["Source"])
    return {
        "$schema": DIALECT,
        "title": "function.yaml",
        "description": "A function beside its code. Without source, the code is the directory of this file.",
        "type": "object",
        "required": ["spec"],
        "additionalProperties": False,
        "properties": {**_envelope("LambdaFunction"), "spec": _tidied(spec)},
        "$defs": definitions,
    }


def repository_schema() -> Schema:
    """A FunctionRepository manifest."""
    spec = RepositorySpec.model_json_schema(by_alias=True)
    definitions = _tidied(spec.pop("$defs"))
    return {
        "$schema": DIALECT,
        "title": "FunctionRepository",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {**_envelope("FunctionRepository"), "spec": _tidied(spec)},
        "$defs": definitions,
    }


def event_schemas() -> dict[str, Schema]:
    """Event type -> schema of the whole CloudEvent in structured JSON mode."""
    return {kind.value: _event_schema(kind) for kind in events.EventType}


def _event_schema(kind: events.EventType) -> Schema:
    data = _tidied(events.payload_of(kind).model_json_schema())
    definitions = data.pop("$defs", {})
    text = {"type": "string", "minLength": 1}
    return {
        "$schema": DIALECT,
        "title": kind.value,
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": {**text, "format": "uri-reference"},
            "type": {"const": kind.value},
            "subject": text,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "lambdacategory": {"const": kind.category.value},
            "correlationid": text,
            "causationid": text,
            "traceparent": text,
            "data": data,
        },
        **({"$defs": definitions} if definitions else {}),
    }


def _envelope(kind: str) -> Schema:
    name = {"type": "string", "maxLength": NAME_LENGTH, "pattern": NAME_PATTERN}
    return {
        "apiVersion": {"const": API_VERSION},
        "kind": {"const": kind},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "name": {**name, "description": "The directory's name when not given."},
                "namespace": {"type": "string", "maxLength": 63},
                "labels": _TEXTS,
                "annotations": _TEXTS,
            },
        },
    }


def _name_the_member(source: Schema) -> None:
    """Says in JSON Schema what CEL says on the server: the member that `type` names is there."""
    source["allOf"] = [
        {
            "if": {"properties": {"type": {"const": kind.value}}, "required": ["type"]},
            "then": {"required": [kind.value]},
        }
        for kind in SourceType
    ]


def _tidied(node: Any) -> Any:
    """Without pydantic's titles, null choices and Kubernetes' own words, which mean nothing to an editor."""
    if isinstance(node, list):
        return [_tidied(child) for child in node]
    if not isinstance(node, dict):
        return node
    if "anyOf" in node and {"type": "null"} in node["anyOf"]:
        (only,) = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
        node = {**only, **{key: child for key, child in node.items() if key not in ("anyOf", "default")}}
    if "patternProperties" in node:
        node = {**node, "additionalProperties": False}
    tidied = {key: _tidied(child) for key, child in node.items() if not _is_noise(key, child)}
    if node.get("x-quantity"):
        tidied["type"] = ["string", "integer"]
    return tidied


def _is_noise(key: str, child: Any) -> bool:
    return (key == "title" and isinstance(child, str)) or key.startswith("x-")
