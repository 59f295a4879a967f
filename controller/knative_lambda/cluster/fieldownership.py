"""Server-side apply: who owns which field, what an apply changes, and what it takes away. Called by memory.

A field is a path: names of map members, and inside lists of type `map` or `set` the keys or values of their items.
All functions are pure. A schema says which lists and maps are granular; without one, maps are and lists are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from knative_lambda.cluster.base import Object
from knative_lambda.cluster.structural import Schema

Step = str | tuple[Any, ...]
Path = tuple[Step, ...]
Fields = frozenset[Path]
Owner = tuple[str, str]
"""(field manager, Apply or Update)"""
Owners = Mapping[Owner, Fields]

APPLY = "Apply"
UPDATE = "Update"
_ITEM = object()
_NOTHING = object()
_UNOWNED = frozenset(
    (
        "apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.uid", "metadata.resourceVersion",
        "metadata.generation", "metadata.creationTimestamp", "metadata.deletionTimestamp", "metadata.generateName",
        "metadata.deletionGracePeriodSeconds", "metadata.selfLink",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Applied:
    """Outcome of an apply: the merged object, who owns what now, and the fields that others owned differently."""

    obj: Object
    owners: Owners
    conflicts: Mapping[Owner, Fields]


def apply(live: Object, wanted: Object, *, schema: Schema, owners: Owners, manager: str) -> Applied:
    """Merges `wanted` into `live`; fields that this manager applied before and nobody else owns go away."""
    me = (manager, APPLY)
    mine = fields_of(wanted, schema)
    merged = _merged(live, wanted, schema)
    others = [fields for owner, fields in owners.items() if owner != me]
    dropped = owners.get(me, frozenset()) - mine - _with_prefixes(mine, *others)
    _remove(merged, dropped, schema, kept=_with_prefixes(mine))
    changed = changed_fields(live, merged, schema)
    conflicts = {owner: fields & changed & mine for owner, fields in owners.items() if owner != me}
    left = _without(owners, changed)
    return Applied(merged, {**left, me: mine}, {owner: fields for owner, fields in conflicts.items() if fields})


def update(old: Object, new: Object, *, schema: Schema, owners: Owners, manager: str) -> Owners:
    """Owners after a plain write: whoever changes a field owns it, what is gone is nobody's."""
    changed = changed_fields(old, new, schema)
    if not changed:
        return owners
    left = _without(owners, changed)
    me = (manager, UPDATE)
    mine = left.get(me, frozenset()) | (changed & fields_of(new, schema))
    return {**left, me: _shared(mine)} if mine else left


def fields_of(obj: Object, schema: Schema) -> Fields:
    """Every field that the object sets, apart from its identity and what the server writes."""
    return _shared(frozenset(_flat(obj, schema)))


def changed_fields(old: Object, new: Object, schema: Schema) -> Fields:
    """Fields that are in only one of the two, or differ."""
    before, after = _flat(old, schema), _flat(new, schema)
    return frozenset(
        path for path in before.keys() | after.keys() if before.get(path, _NOTHING) != after.get(path, _NOTHING)
    )


def spelled(path: Path) -> str:
    """A path as the API server's messages have it: `.spec.env[name="A"].value`."""
    return "".join(f".{step}" if isinstance(step, str) else _spelled_item(step) for step in path)


def _spelled_item(step: tuple[Any, ...]) -> str:
    if step[0] == "=":
        return f"[={step[1]!r}]"
    return "[" + ",".join(f'{key}="{value}"' for key, value in step) + "]"


@lru_cache(maxsize=4096)
def _shared(fields: Fields) -> Fields:
    """Ten thousand objects of one shape then hold one set between them."""
    return fields


def _without(owners: Owners, fields: Fields) -> dict[Owner, Fields]:
    left = {owner: _shared(theirs - fields) for owner, theirs in owners.items()}
    return {owner: theirs for owner, theirs in left.items() if theirs}


def _with_prefixes(*sets: Iterable[Path]) -> frozenset[Path]:
    """Every path and all the paths above it."""
    return frozenset(path[:length] for paths in sets for path in paths for length in range(1, len(path) + 1))


# ---- walking ----


def _flat(obj: Object, schema: Schema) -> dict[Path, Any]:
    flat = dict(_leaves(obj, schema, ()))
    return {path: value for path, value in flat.items() if ".".join(map(str, path[:2])) not in _UNOWNED}


def _leaves(node: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, Any]]:
    """(path, value) of scalars, of atomic or empty collections, and of the items of granular lists."""
    if isinstance(node, dict) and node and _granular_map(schema):
        for name, value in node.items():
            yield from _leaves(value, _of_property(schema, name), (*path, name))
    elif isinstance(node, list) and (type_ := _list_type(schema)) != "atomic":
        for item in node:
            step = _step(item, schema, type_)
            yield (*path, step), _ITEM
            if type_ == "map":
                yield from _item_leaves(item, schema, (*path, step))
    else:
        yield path, node


def _item_leaves(item: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, Any]]:
    """Without the item's keys: they are its name, and go with it."""
    keys = schema.get("x-kubernetes-list-map-keys", [])
    rest = {name: value for name, value in item.items() if name not in keys}
    if rest:
        yield from _leaves(rest, schema.get("items", {}), path)


def _merged(live: Any, wanted: Any, schema: Schema) -> Any:
    """A new value; parts of both may be shared with it."""
    if isinstance(live, dict) and isinstance(wanted, dict) and _granular_map(schema):
        merged = dict(live)
        for name, value in wanted.items():
            merged[name] = _merged(live[name], value, _of_property(schema, name)) if name in live else value
        return merged
    if isinstance(live, list) and isinstance(wanted, list) and (type_ := _list_type(schema)) != "atomic":
        return _merged_lists(live, wanted, schema, type_)
    return wanted


def _merged_lists(live: list[Any], wanted: list[Any], schema: Schema, type_: str) -> list[Any]:
    """Items of `live` keep their places, new ones follow."""
    by_step = {_step(item, schema, type_): item for item in live}
    for item in wanted:
        step = _step(item, schema, type_)
        known = by_step.get(step, _NOTHING)
        by_step[step] = item if known is _NOTHING else _merged(known, item, schema.get("items", {}))
    return list(by_step.values())


def _remove(obj: Object, fields: Fields, schema: Schema, *, kept: frozenset[Path]) -> None:
    for path in sorted(fields, key=len):
        _remove_one(obj, path, schema, kept=kept)


def _remove_one(obj: Object, path: Path, schema: Schema, *, kept: frozenset[Path]) -> None:
    """Takes one field out, and the collections above it that are empty then, unless they were asked for."""
    trail: list[tuple[Any, Any]] = []
    node: Any = obj
    for step in path:
        at, child, schema = _descend(node, step, schema)
        if at is None:
            return
        copied = child.copy() if isinstance(child, dict | list) else child
        node[at] = copied  # the merged object shares its parts with others
        trail.append((node, at))
        node = copied
    for depth, (parent, at) in reversed(list(enumerate(trail, start=1))):
        if depth < len(path) and (parent[at] or path[:depth] in kept):
            return
        del parent[at]


def _descend(node: Any, step: Step, schema: Schema) -> tuple[Any, Any, Schema]:
    """(index, child, its schema) of one step; index None when there is no such child."""
    if isinstance(step, str):
        if isinstance(node, dict) and step in node:
            return step, node[step], _of_property(schema, step)
        return None, None, {}
    type_ = _list_type(schema)
    for index, item in enumerate(node if isinstance(node, list) else ()):
        if _step(item, schema, type_) == step:
            return index, item, schema.get("items", {})
    return None, None, {}


# ---- schema ----


def _granular_map(schema: Schema) -> bool:
    return schema.get("x-kubernetes-map-type") != "atomic"


def _list_type(schema: Schema) -> str:
    return str(schema.get("x-kubernetes-list-type", "atomic"))


def _of_property(schema: Schema, name: str) -> Schema:
    found = schema.get("properties", {}).get(name)
    if found is None:
        found = schema.get("additionalProperties")
    return found if isinstance(found, dict) else {}


def _step(item: Any, schema: Schema, type_: str) -> Step:
    """The name of a list item: the values of its keys (their defaults count), or the item itself in a set."""
    if type_ == "set" or not isinstance(item, dict):
        return ("=", item if not isinstance(item, dict | list) else repr(item))
    properties = schema.get("items", {}).get("properties", {})
    keys = schema.get("x-kubernetes-list-map-keys", [])
    return tuple((key, item.get(key, properties.get(key, {}).get("default"))) for key in keys)
