"""The rules that an API server has for structural schemas, as far as a generator could break them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_KNOWN = {
    "type", "description", "properties", "required", "additionalProperties", "items", "default", "enum", "format",
    "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "anyOf",
    "x-kubernetes-validations", "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip
"""What JSONSchemaProps knows, of which we may make use; $ref, oneOf with structure, patternProperties are not in it."""
_VALUE_ONLY = {"type", "pattern", "enum", "minimum", "maximum"}


def problems(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every breach of a rule, as `path: what`; nothing for a structural schema."""
    if unknown := set(node) - _KNOWN:
        yield f"{path}: unknown words {sorted(unknown)}"
    if "type" not in node and not _is_typed_otherwise(node):
        yield f"{path}: no type"
    if "properties" in node and isinstance(node.get("additionalProperties"), dict):
        yield f"{path}: properties and additionalProperties exclude each other"
    for choice in node.get("anyOf", ()):
        if set(choice) - _VALUE_ONLY:
            yield f"{path}: structure within anyOf"
    for name in node.get("required", ()):
        if name not in node.get("properties", {}):
            yield f"{path}: requires {name}, which is no property"
    yield from _list_problems(node, path)
    yield from _bounds(node, path)
    for name, child in node.get("properties", {}).items():
        yield from problems(child, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(node.get(part), dict):
            yield from problems(node[part], f"{path}.{part}")


def _is_typed_otherwise(node: dict[str, Any]) -> bool:
    return bool(node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields"))


def _list_problems(node: dict[str, Any], path: str) -> Iterator[str]:
    """Keys of a map-like list must be there in every item."""
    items = node.get("items", {})
    for key in node.get("x-kubernetes-list-map-keys", ()):
        if key not in items.get("required", ()) and "default" not in items.get("properties", {}).get(key, {}):
            yield f"{path}: list key {key} is neither required nor defaulted"
    if node.get("type") == "array" and not items:
        yield f"{path}: a list without items"


def _bounds(node: dict[str, Any], path: str) -> Iterator[str]:
    """CEL rules are costed by the largest possible value, so that one below an unbounded list is refused."""
    if not path.startswith(".spec"):
        return
    if node.get("type") == "array" and "maxItems" not in node:
        yield f"{path}: a list without maxItems"
    is_text = node.get("type") == "string" and "enum" not in node and node.get("format") != "date-time"
    if is_text and "maxLength" not in node:
        yield f"{path}: text without maxLength"


def default_problems(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Defaults that the schema itself would prune: the API server refuses those."""
    if isinstance(node.get("default"), dict):
        for name in node["default"]:
            if name not in node.get("properties", {}):
                yield f"{path}: default names {name}, which is no property"
    for name, child in node.get("properties", {}).items():
        yield from default_problems(child, f"{path}.{name}")
