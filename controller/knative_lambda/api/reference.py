"""The pages of docs/api, made from the types: fields with their limits, rules, conditions, reasons, events, samples.

Pure. Called by generated.files, which writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from knative_lambda.api import crd, events, kinds, meanings, samples
from knative_lambda.api.conditions import ConditionType, Reason
from knative_lambda.api.events import Category, EventType
from knative_lambda.api.function import LambdaFunction
from knative_lambda.api.meta import API_VERSION, Kind
from knative_lambda.api.phases import Phase
from knative_lambda.api.repository import FunctionRepository

Schema = dict[str, Any]
Row = tuple[str, ...]

REPOSITORY_CONDITIONS = frozenset(
    {
        ConditionType.READY,
        ConditionType.RECONCILING,
        ConditionType.STALLED,
        ConditionType.FETCHED,
        ConditionType.APPLIED,
    }
)
FUNCTION_CONDITIONS = frozenset(ConditionType) - {ConditionType.FETCHED, ConditionType.APPLIED}

_REPOSITORY_ONLY = frozenset(
    {
        Reason.SUSPENDED,
        Reason.FETCHED,
        Reason.FETCHING,
        Reason.APPLIED,
        Reason.APPLYING,
        Reason.FINDINGS,
        Reason.PRUNE_GUARDED,
        Reason.UNVERIFIED,
    }
)
REPOSITORY_REASONS = _REPOSITORY_ONLY | {
    Reason.READY,
    Reason.PENDING,
    Reason.DELETING,
    Reason.INVALID_SPEC,
    Reason.SOURCE_NOT_FOUND,
    Reason.REF_NOT_FOUND,
    Reason.SOURCE_REFUSED,
    Reason.AUTHENTICATION_FAILED,
    Reason.SECRET_NOT_FOUND,
    Reason.NOT_OWNED,
    Reason.REFUSED,
    Reason.UNREACHABLE,
    Reason.WRITE_FAILED,
}
FUNCTION_REASONS = frozenset(Reason) - _REPOSITORY_ONLY

_SAMPLED = ("created", "completed", "updated")
"""Endings of the types that stand for their category on the page of events."""


def pages() -> dict[str, str]:
    """Name of the page -> Markdown."""
    return {"lambdafunction": _function_page(), "functionrepository": _repository_page(), "events": _events_page()}


def _function_page() -> str:
    return _page(
        _heading(kinds.LAMBDA_FUNCTION, LambdaFunction, short="lfn"),
        _section("Sample", _code("yaml", samples.FUNCTION)),
        _section(
            "In a repository",
            "A directory with a `function.yaml` is a function. Everything that is not said has its default: the name is"
            " the directory's, the source is the directory itself.",
            _code("yaml", samples.FUNCTION_YAML),
        ),
        *_object_sections(LambdaFunction),
        _section(
            "Phases",
            "`status.phase` is derived from the conditions, for display; programs read the conditions.",
            _meanings("Phase", Phase),
        ),
        _section("Conditions", _meanings("Condition", ConditionType, only=FUNCTION_CONDITIONS)),
        _section("Reasons", _meanings("Reason", Reason, only=FUNCTION_REASONS)),
    )


def _repository_page() -> str:
    return _page(
        _heading(kinds.FUNCTION_REPOSITORY, FunctionRepository, short="lrepo"),
        _section("Sample", _code("yaml", samples.REPOSITORY)),
        *_object_sections(FunctionRepository),
        _section("Conditions", _meanings("Condition", ConditionType, only=REPOSITORY_CONDITIONS)),
        _section("Reasons", _meanings("Reason", Reason, only=REPOSITORY_REASONS)),
    )


def _events_page() -> str:
    types = meanings.of(EventType)
    return _page(
        "# Events\n\n"
        f"{len(types)} CloudEvents 1.0 types, in structured JSON mode, published persistent to a durable topic exchange"
        " whose routing key is the type. An event may come twice, and then has the same `source` and `id`.\n\n"
        f"`source` is `{events.SOURCE}`, `subject` is `namespace/name` of the function. Extensions, all strings:"
        " `lambdacategory`, `correlationid`, `causationid`, `traceparent`.",
        _section(
            "Types",
            _table(
                ("Type", "Category", "Published when", "Schema"),
                (
                    (_tick(kind), _tick(EventType(kind).category), said, _schema_link(kind))
                    for kind, said in types.items()
                ),
            ),
        ),
        *(_payload_section(category) for category in Category),
    )


def _payload_section(category: Category) -> str:
    model = events.PAYLOADS[category]
    kind = next(one for one in EventType if one.category is category and one.value.endswith(_SAMPLED))
    schema = crd.structural(model)
    return _section(
        f"Data of {category}",
        _table(("Field", "Type", "Default", "Limits", "Meaning"), _fields(schema, "")),
        _code("json", samples.event_text(kind)),
    )


def _schema_link(kind: str) -> str:
    return f"[schema](../../schemas/events/{kind}.schema.json)"


def _heading(kind: Kind, model: type[BaseModel], *, short: str) -> str:
    return (
        f"# {kind.kind}\n\n{model.__doc__}\n\n"
        f"`apiVersion: {API_VERSION}`, `kind: {kind.kind}`, namespaced; `kubectl get {short}` for short."
    )


def _object_sections(model: type[BaseModel]) -> Iterator[str]:
    """The tables of spec and status, and the rules that span fields."""
    whole = crd.open_api_schema(model)
    for part, said in (("spec", "What you write."), ("status", "What the controller saw; never write it.")):
        rows = _fields(whole["properties"][part], part)
        yield _section(part.capitalize(), said, _table(("Field", "Type", "Default", "Limits", "Meaning"), rows))
    rules = [(_tick(path), message) for path, message in _rules(whole, "")]
    if rules:
        yield _section("Rules", "The API server refuses what breaks one of these.", _table(("At", "Rule"), rules))


def _fields(node: Schema, path: str) -> Iterator[Row]:
    """One row per field, parents before children; lists are marked [] and maps {}."""
    required = set(node.get("required", ()))
    for name, child in node.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        limits = ", ".join([*(["required"] if name in required else []), *_limits(child)])
        yield _tick(place), _type(child), _default(child), limits, child.get("description", "")
        yield from _fields(child, place)
        if child.get("type") == "array":
            yield from _fields(child["items"], f"{place}[]")


def _rules(node: Schema, path: str) -> Iterator[tuple[str, str]]:
    """(path, message) of every CEL rule."""
    for one in node.get("x-kubernetes-validations", ()):
        yield path or "object", one["message"]
    for name, child in node.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}" if path else name)
    if isinstance(node.get("items"), dict):
        yield from _rules(node["items"], f"{path}[]")


def _type(node: Schema) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    match node.get("type"):
        case "array":
            return f"list of {_type(node['items'])}"
        case "object" if isinstance(node.get("additionalProperties"), dict):
            return f"map of {_type(node['additionalProperties'])}"
        case "string" if node.get("format") == "date-time":
            return "time"
        case found:
            return str(found)


def _default(node: Schema) -> str:
    """Defaults of objects are those of their fields, which have rows of their own."""
    value = node.get("default")
    if value is None or isinstance(value, dict):
        return ""
    return _tick({True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value))


def _limits(node: Schema) -> Iterator[str]:
    """What a value must fulfil, in words."""
    if choices := node.get("enum"):
        yield "one of " + ", ".join(_tick(choice) for choice in choices)
    if "minimum" in node or "maximum" in node:
        yield _between(node.get("minimum"), node.get("maximum"))
    if "minLength" in node or "maxLength" in node:
        yield _between(node.get("minLength"), node.get("maxLength")) + " characters"
    if "maxItems" in node or "maxProperties" in node:
        yield f"at most {node.get('maxItems', node.get('maxProperties'))}"
    if keys := node.get("x-kubernetes-list-map-keys"):
        yield f"unique by {', '.join(keys)}"
    if (pattern := node.get("pattern")) and not node.get("x-kubernetes-int-or-string"):
        yield _tick(pattern)


def _between(least: float | None, most: float | None) -> str:
    if least is None:
        return f"at most {most}"
    return f"at least {least}" if most is None else f"{least} to {most}"


def _meanings(title: str, enum: type[StrEnum], *, only: Iterable[StrEnum] | None = None) -> str:
    said: Mapping[str, str] = meanings.of(enum)
    chosen = [member for member in enum if only is None or member in only]
    return _table((title, "Meaning"), ((_tick(member), said[member]) for member in chosen))


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)


def _tick(text: str) -> str:
    """Code within a table: a bar would end the cell."""
    return "`" + text.replace("|", "\\|") + "`"


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _section(title: str, *paragraphs: str) -> str:
    return "\n\n".join((f"## {title}", *paragraphs))


def _page(*sections: str) -> str:
    return "\n\n".join(sections) + "\n"
