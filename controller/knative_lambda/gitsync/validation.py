"""A document against the JSON Schema and the API types: findings for people. Pure; called by discovery."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
from pydantic import ValidationError

from knative_lambda.api import function, schema
from knative_lambda.api.meta import NAME_LENGTH
from knative_lambda.api.repository import Finding
from knative_lambda.gitsync.document import Document, pointer
from knative_lambda.kit import redact

MESSAGE_LIMIT = 2048
_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where findings of one document point."""

    file: str
    document: Document
    function: str = ""

    def finding(self, message: str, at: str = "") -> Finding:
        """A finding at a JSON pointer of the document."""
        return finding(self.file, message, line=self.document.line(at), at=at, function=self.function)


def finding(file: str, message: str, *, line: int | None = None, at: str = "", function: str = "") -> Finding:
    """A finding within the bounds of the API."""
    shown = redact.text(message)
    shown = shown if len(shown) <= MESSAGE_LIMIT else shown[: MESSAGE_LIMIT - 1] + "…"
    return Finding(file=file[:1024], line=line, pointer=at[:1024], function=function[:253], message=shown)


def check_schema(place: Place) -> tuple[Finding, ...]:
    """Everything in which the document differs from the schema of function.yaml."""
    found: dict[tuple[str, str], Finding] = {}
    for error in _validator().iter_errors(place.document.value):
        for at, message in _explain(error):
            found.setdefault((at, message), place.finding(message, at))
    return tuple(sorted(found.values(), key=lambda one: (one.line or 0, one.pointer)))


def check_types(place: Place, manifest: dict[str, Any]) -> tuple[Finding, ...]:
    """What only the API types know: durations, exclusive fields, unique names. `manifest` is the whole object."""
    try:
        function.parse(manifest)
    except ValidationError as error:
        return tuple(
            place.finding(_pydantic_words(one["type"], one["msg"]), pointer(*one["loc"])) for one in error.errors()
        )
    return ()


@functools.cache
def _validator() -> Any:
    return jsonschema_rs.validator_for(schema.function_schema())


def _explain(error: Any) -> Iterator[tuple[str, str]]:
    """(JSON pointer, words) of one schema error; the error of a choice is told by the choice's own errors."""
    path: Sequence[str | int] = error.instance_path
    kind = error.kind
    match kind.name:
        case "additionalProperties" | "unevaluatedProperties":
            for name in kind.unexpected:
                yield pointer(*path, name), _unknown_field(name, error)
        case "falseSchema":
            yield pointer(*path), "unknown field; nothing may be here"
        case "required":
            yield pointer(*path), f"the field {kind.property} is missing"
        case "type":
            yield pointer(*path), f"must be {_types(kind.types)}, not {_shown(error.instance)}"
        case "enum":
            yield pointer(*path), _choice(path, error.instance, list(kind.options))
        case "const":
            yield pointer(*path), f"must be {kind.expected_value!r}, not {_shown(error.instance)}"
        case "pattern":
            yield pointer(*path), f"{_shown(error.instance)} does not have the form {kind.pattern}"
        case "maxLength" if path and path[-1] == "name" and kind.limit == NAME_LENGTH:
            length = len(error.instance)
            yield pointer(*path), f"the name has {length} characters; at most {NAME_LENGTH} are allowed"
        case _:
            yield pointer(*path), error.message


def _unknown_field(name: str, error: Any) -> str:
    known = _siblings(list(error.instance_path))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known) or 'nothing'}"
    return f"unknown field {name}; {hint}"


def _siblings(path: list[str | int]) -> list[str]:
    """Field names that the schema knows at a place."""
    root = schema.function_schema()
    node: dict[str, Any] = _followed(root, root)
    for step in path:
        inner = node.get("items", {}) if isinstance(step, int) else node.get("properties", {}).get(step, {})
        node = _followed(inner, root)
    return list(node.get("properties", {}))


def _followed(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    return root["$defs"][reference.rsplit("/", 1)[-1]] if reference else node


def _choice(path: Sequence[str | int], given: Any, options: list[str]) -> str:
    what = "runtime" if list(path[-2:]) == ["runtime", "language"] else "value"
    near = difflib.get_close_matches(str(given), [str(option) for option in options], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown {what} {_shown(given)}; {hint}known: {', '.join(map(str, options))}"


def _types(types: Sequence[str]) -> str:
    return " or ".join(_WORDS.get(name, name) for name in types)


def _shown(value: Any) -> str:
    """A value for an error message: short texts and numbers as they are, the rest by type, secrets never whole."""
    if value is None:
        return "null"
    if isinstance(value, str | int | float) and len(repr(value)) <= 80:
        return repr(value)
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "a long text"


def _pydantic_words(kind: str, message: str) -> str:
    """Without pydantic's prefix for errors of our own validators."""
    return message.removeprefix("Value error, ") if kind == "value_error" else message
