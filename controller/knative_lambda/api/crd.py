"""The CustomResourceDefinitions, made from the pydantic models.

Pydantic's JSON Schema is turned into the structural schema that an API server accepts: references inlined, null
removed, defaults given to parents so that nested defaults apply, CEL rules kept. Called by `kn-lambda schemas`, which
writes the chart's CRDs, and by MemoryCluster, which defaults and validates with them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from knative_lambda.api import kinds
from knative_lambda.api.function import LambdaFunction
from knative_lambda.api.meta import Kind
from knative_lambda.api.repository import FunctionRepository

Schema = dict[str, Any]

_DROPPED = {"title", "$defs", "x-quantity", "x-list-map-key", "propertyNames", "patternProperties"}
_EMPTY: tuple[Any, ...] = ("", [], {}, None)


def definitions() -> list[Schema]:
    """Both CRDs, as dicts in the order of their names."""
    return [
        _definition(
            kinds.FUNCTION_REPOSITORY,
            FunctionRepository,
            short_names=["lrepo"],
            columns=[
                _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
                _column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
                _column("Functions", ".status.functions", type="integer"),
                _column("Revision", ".status.appliedRevision"),
                _column("URL", ".spec.url", priority=1),
                _column("Age", ".metadata.creationTimestamp", type="date"),
            ],
        ),
        _definition(
            kinds.LAMBDA_FUNCTION,
            LambdaFunction,
            short_names=["lfn"],
            columns=[
                _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
                _column("Phase", ".status.phase"),
                _column("Language", ".spec.runtime.language"),
                _column("URL", ".status.url"),
                _column("Image", ".status.image", priority=1),
                _column("Age", ".metadata.creationTimestamp", type="date"),
            ],
        ),
    ]


def _definition(kind: Kind, model: type[BaseModel], *, short_names: list[str], columns: list[Schema]) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": short_names,
                "categories": ["knative"],
            },
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": open_api_schema(model)},
                }
            ],
        },
    }


def _column(name: str, path: str, *, type: str = "string", priority: int = 0) -> Schema:
    return {"name": name, "type": type, "jsonPath": path, **({"priority": priority} if priority else {})}


def open_api_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a whole custom resource."""
    schema = structural(model)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    properties["metadata"] = {"type": "object"}
    properties["status"] = _without_defaults(properties["status"])
    schema["required"] = ["spec"]
    return schema


def structural(model: type[BaseModel]) -> Schema:
    """Any model as structural schema."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    schema: Schema = _structural(raw, raw.get("$defs", {}))
    return schema


def _structural(node: Any, defs: Schema) -> Any:
    """One node of pydantic's schema as structural schema."""
    node = _resolved(node, defs)
    found: Schema = {}
    for name, value in node.items():
        found |= _word(name, value, defs)
    return _with_kubernetes_words(node, found)


def _word(name: str, value: Any, defs: Schema) -> Schema:
    """What becomes of one word of JSON Schema."""
    match name:
        case "properties":
            return {name: {key: _structural(child, defs) for key, child in value.items()}}
        case "items":
            return {name: _structural(value, defs)}
        case "additionalProperties" if isinstance(value, dict):
            return {name: _structural(value, defs)}
        case "additionalProperties":
            return {"x-kubernetes-preserve-unknown-fields": True} if value else {}
        case "default":
            default = pruned(value)
            return {} if default in _EMPTY else {name: default}
        case _:
            return {} if name in _DROPPED else {name: value}


def _with_kubernetes_words(node: Schema, found: Schema) -> Schema:
    if node.get("x-quantity"):
        found.pop("type", None)
        found.pop("maxLength", None)
        found |= {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    if key := node.get("x-list-map-key"):
        found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    for pattern, value in node.get("patternProperties", {}).items():
        found |= _named_by(pattern, longest=node["propertyNames"]["maxLength"]) | {"additionalProperties": value}
    if found.get("type") == "integer" and "format" not in found:
        found["format"] = "int64"
    return found


def _named_by(pattern: str, *, longest: int) -> Schema:
    """Structural schemas know no patternProperties: every name must match, which CEL can say."""
    message = f"names must match {pattern} and have at most {longest} characters"
    rule = f"self.all(name, size(name) <= {longest} && name.matches('{pattern}'))"
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}


def _resolved(node: Schema, defs: Schema) -> Schema:
    """Follows $ref and takes null out of anyOf; what stands beside the reference wins."""
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[-1]]
        return _resolved({**target, **{k: v for k, v in node.items() if k != "$ref"}}, defs)
    if "anyOf" in node:
        (only,) = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        rest = {k: v for k, v in node.items() if k != "anyOf"}
        return _resolved({**_resolved(only, defs), **rest}, defs)
    return node


def pruned(value: Any) -> Any:
    """A default, or a spec, without what is empty anyway."""
    if isinstance(value, dict):
        inner = {key: pruned(child) for key, child in value.items()}
        return {key: child for key, child in inner.items() if child not in _EMPTY}
    if isinstance(value, list):
        return [pruned(child) for child in value]
    return value


def _without_defaults(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_defaults(child)
            for key, child in node.items()
            if key != "default" or not isinstance(node.get("type"), str)
        }
    if isinstance(node, list):
        return [_without_defaults(child) for child in node]
    return node
