"""Structural schemas: what an API server does with a custom resource before it stores it. Called by memory.

Unknown fields are pruned, defaults filled in, the rest validated. CEL rules are not evaluated here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from knative_lambda.cluster.base import Object

Schema = dict[str, Any]

_ENVELOPE = frozenset({"apiVersion", "kind", "metadata"})
_INT_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
_KEYWORDS = frozenset(
    (
        "type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
        "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
        "required",
    )
)  # fmt: skip
_ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}
_MAX_ERRORS = 10


class Structure:
    """The schema of one version of a custom resource."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._validator = jsonschema_rs.Draft4Validator(_json_schema(schema), validate_formats=True)

    def prune(self, obj: Object) -> list[str]:
        """Removes, in place, what the schema does not know; returns the paths."""
        return list(_prune(obj, self.schema, "", resource=True))

    def default(self, obj: Object) -> None:
        """Fills defaults in, in place, and drops nulls where null is not allowed."""
        _default(obj, self.schema)

    def findings(self, obj: Object) -> list[str]:
        """What is wrong, as `spec.runtime: message`; empty when the object is valid."""
        found = list(duplicates(obj, self.schema))
        for error in self._validator.iter_errors(obj):
            found.append(f"{_dotted(error.instance_path)}: {error.message}")
            if len(found) == _MAX_ERRORS:
                break
        return found


def duplicates(node: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Items of sets and of lists by key that are there twice."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from duplicates(value, _child(schema, name) or {}, f"{path}.{name}".lstrip("."))
    elif isinstance(node, list):
        seen: list[Any] = []
        keys = schema.get("x-kubernetes-list-map-keys", [])
        unique = schema.get("x-kubernetes-list-type") in ("set", "map")
        for index, item in enumerate(node):
            name = [item.get(key) for key in keys] if keys and isinstance(item, dict) else item
            if unique and name in seen:
                yield f"{path}[{index}]: Duplicate value: {name!r}"
            if unique:
                seen.append(name)
            yield from duplicates(item, schema.get("items", {}), f"{path}[{index}]")


def _prune(node: Any, schema: Schema, path: str, *, resource: bool) -> Iterator[str]:
    if isinstance(node, list):
        items = schema.get("items", _ANYTHING if _keeps_unknown(schema) else {})
        for index, item in enumerate(node):
            yield from _prune(item, items, f"{path}[{index}]", resource=False)
    elif isinstance(node, dict):
        resource = resource or bool(schema.get("x-kubernetes-embedded-resource"))
        for name in list(node):
            child = _child(schema, name)
            if resource and name in _ENVELOPE:
                continue
            if child is None:
                del node[name]
                yield f"{path}.{name}".lstrip(".")
            else:
                yield from _prune(node[name], child, f"{path}.{name}", resource=False)


def _child(schema: Schema, name: str) -> Schema | None:
    """The schema of a property; None when the property is unknown."""
    if name in schema.get("properties", {}):
        known: Schema = schema["properties"][name]
        return known
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        return others
    return _ANYTHING if others or _keeps_unknown(schema) else None


def _keeps_unknown(schema: Schema) -> bool:
    return bool(schema.get("x-kubernetes-preserve-unknown-fields"))


def _default(node: Any, schema: Schema) -> None:
    if isinstance(node, list):
        for item in node:
            _default(item, schema.get("items", {}))
    elif isinstance(node, dict):
        for name, child in schema.get("properties", {}).items():
            _default_property(node, name, child)
        if isinstance(others := schema.get("additionalProperties"), dict):
            for value in node.values():
                _default(value, others)


def _default_property(node: Object, name: str, schema: Schema) -> None:
    """A null where null is not allowed counts as absent."""
    if node.get(name) is None and not (name in node and schema.get("nullable")):
        node.pop(name, None)
        if "default" in schema:
            node[name] = copy.deepcopy(schema["default"])
    if name in node:
        _default(node[name], schema)


def _json_schema(schema: Schema) -> Schema:
    """OpenAPI v3 as Kubernetes writes it -> JSON Schema draft 4 (whose exclusiveMinimum is a boolean, too)."""
    found: Schema = {word: value for word, value in schema.items() if word in _KEYWORDS}
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
        found |= _INT_OR_STRING
    if schema.get("nullable") and "type" in found:
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    if "properties" in schema:
        found["properties"] = {name: _json_schema(child) for name, child in schema["properties"].items()}
    for word in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(word), dict):
            found[word] = _json_schema(schema[word])
    for word in ("allOf", "anyOf", "oneOf"):
        if word in schema and word not in found:
            found[word] = [_json_schema(child) for child in schema[word]]
    return found


def _dotted(path: list[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".") or "(object)"
