"""Objects as the table that `kubectl get` prints (meta.k8s.io/v1 Table). Called by kubeapi; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from knative_lambda.cluster.base import Object
from knative_lambda.local.kube.kubecatalog import Column

_STEP = re.compile(
    r"""\.(?P<name>(?:\\.|[^.\[\]\\])+)
      | \[\?\(@\.(?P<key>[\w-]+)\s*==\s*["'](?P<value>[^"']*)["']\)\]
      | \[(?P<index>\d+|\*)\]
      | \['(?P<quoted>[^']+)'\]""",
    re.VERBOSE,
)
_NAME = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}
_NUMBERS = ("integer", "number")


def wanted(accept: str) -> bool:
    """Whether the first form in an Accept header that we have is a Table."""
    for choice in accept.split(","):
        kind, *parameters = (part.strip() for part in choice.split(";"))
        if kind not in ("application/json", "*/*"):
            continue
        if not any(one.startswith("as=") for one in parameters):
            return False
        if {"as=Table", "g=meta.k8s.io", "v=v1"} <= set(parameters):
            return True
    return False


def table(
    columns: Sequence[Column], objects: Sequence[Object], *, now: datetime, include: str = "", heading: bool = True
) -> Object:
    """`include` is the includeObject of the request: Metadata (the default), Object or None."""
    definitions = [_NAME, *map(_definition, columns)]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": definitions if heading else [],
        "rows": [
            {"cells": [one["metadata"].get("name"), *_cells(columns, one, now)], "object": _included(one, include)}
            for one in objects
        ],
    }


def human_age(moment: str, now: datetime) -> str:
    """As kubectl writes durations: `5s`, `3m20s`, `5h`, `2d3h`, `400d`."""
    try:
        age = now - datetime.fromisoformat(moment).astimezone(UTC)
    except ValueError:
        return "<invalid>"
    seconds = max(0, int(age / timedelta(seconds=1)))
    for limit, unit, smaller, fine_until in _UNITS:
        if seconds < limit:
            rest = seconds % unit[0] // smaller[0] if seconds < fine_until else 0
            return f"{seconds // unit[0]}{unit[1]}" + (f"{rest}{smaller[1]}" if rest else "")
    return f"{seconds // _DAY[0]}d"


_SECOND, _MINUTE, _HOUR, _DAY = (1, "s"), (60, "m"), (3600, "h"), (86400, "d")
_UNITS = (
    (120, _SECOND, _SECOND, 0),
    (3 * 3600, _MINUTE, _SECOND, 600),
    (48 * 3600, _HOUR, _MINUTE, 8 * 3600),
    (730 * 86400, _DAY, _HOUR, 8 * 86400),
)
"""(below so many seconds, unit, smaller unit, which is shown below so many seconds)"""


def values(obj: Any, path: str) -> list[Any]:
    """What a JSONPath finds: names, positions, `[*]` and `[?(@.name=="value")]`, as printer columns use them."""
    found = [obj]
    for step in _steps(path):
        found = [value for node in found for value in _stepped(node, step)]
    return found


def _definition(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": "string" if column.type == "date" else column.type,
        "format": "",
        "description": "",
        "priority": column.priority,
    }


def _cells(columns: Sequence[Column], obj: Object, now: datetime) -> Iterator[Any]:
    for column in columns:
        found = values(obj, column.path)
        yield _cell(column, found[0], now) if found else None


def _cell(column: Column, value: Any, now: datetime) -> Any:
    if value is None or (column.type in _NUMBERS and isinstance(value, int | float)):
        return value
    if column.type == "date":
        return human_age(str(value), now)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _included(obj: Object, include: str) -> Object | None:
    match include:
        case "None":
            return None
        case "Object":
            return obj
        case _:
            return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


@lru_cache(maxsize=256)
def _steps(path: str) -> tuple[dict[str, str], ...]:
    return tuple({name: word for name, word in found.groupdict().items() if word} for found in _STEP.finditer(path))


def _stepped(node: Any, step: dict[str, str]) -> Iterator[Any]:
    if "index" in step:
        if isinstance(node, list):
            yield from node if step["index"] == "*" else node[int(step["index"]) :][:1]
    elif "key" in step:
        items = node if isinstance(node, list) else ()
        yield from (
            one for one in items if isinstance(one, dict) and str(one.get(step["key"])) == step.get("value", "")
        )
    elif isinstance(node, dict):
        name = step.get("quoted") or re.sub(r"\\(.)", r"\1", step["name"])
        if name in node:
            yield node[name]
