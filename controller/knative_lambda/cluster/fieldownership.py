"""Server-side apply: who owns which field, what an apply changes, and what it takes away. Called by memory.

A field is a path: names of map members, and inside lists of type `map` or `set` the keys or values of their items.
All functions are pure. A schema says which lists and maps are granular; without one, maps are and lists are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
_NOTHING = object()
_ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}
_ENVELOPE = frozenset({"apiVersion", "kind", "metadata"})
_SYSTEM = frozenset(
    (
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
        "generateName", "deletionGracePeriodSeconds", "selfLink", "managedFields",
    )
)  # fmt: skip
"""Metadata that nobody owns."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Outcome of an apply."""

    obj: Object
    owners: Owners
    conflicts: Mapping[Owner, Fields]
    """What others owned with another value."""
    emptied: Fields
    """Collections that lost their last member while somebody owns the collection itself. A real API server leaves
    null there; where null is not allowed (custom resources, without a default) it then refuses the whole apply."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Fields, and whole collections, that were set or changed, and those that are gone."""

    written: Fields
    removed: Fields


def apply(live: Object, wanted: Object, *, schema: Schema, owners: Owners, manager: str) -> Applied:
    """Merges `wanted` into `live`; fields that this manager applied before and nobody else owns go away."""
    me = (manager, APPLY)
    mine = fields_of(wanted, schema)
    merged = _merged(live, wanted, schema)
    others = [fields for owner, fields in owners.items() if owner != me]
    held = _holding(mine.union(*others), schema)
    emptied = _remove(merged, owners.get(me, frozenset()) - held, schema, held=held)
    change = difference(live, merged, schema)
    conflicts = {owner: fields & change.written for owner, fields in owners.items() if owner != me}
    left = _without(owners, change.written | (change.removed - emptied.keys()))
    left.pop(me, None)
    return Applied(
        obj=merged,
        owners={**left, me: mine} if mine else left,
        conflicts={owner: fields for owner, fields in conflicts.items() if fields},
        emptied=frozenset(path for path, forgiven in emptied.items() if not forgiven),
    )


def update(old: Object, new: Object, *, schema: Schema, owners: Owners, manager: str) -> Owners:
    """Owners after a plain write: whoever changes a field owns it, what is gone is nobody's."""
    change = difference(old, new, schema)
    if not (change.written or change.removed):
        return owners
    me = (manager, UPDATE)
    left = _without(owners, change.written | change.removed)
    mine = left.get(me, frozenset()) | change.written
    return {**left, me: _shared(mine)} if mine else left


def fields_of(obj: Object, schema: Schema) -> Fields:
    """Every field that the object sets, apart from its identity and what the server writes."""
    return _shared(frozenset(_leaves(_owned_part(obj), schema, ())) - {()})


def difference(old: Object, new: Object, schema: Schema) -> Difference:
    """What a write from `old` to `new` does."""
    written: set[Path] = set()
    removed: set[Path] = set()
    _compare(_Pair(_owned_part(old), _owned_part(new), schema, ()), written, removed)
    return Difference(frozenset(written), frozenset(removed))


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


def _holding(fields: Fields, schema: Schema) -> frozenset[Path]:
    """These fields, and the collections that they keep: named ones, not the list items or map entries they are in."""
    held = set(fields)
    for path in fields:
        below = schema
        for length, step in enumerate(path[:-1], start=1):
            if not _is_entry(below, step):
                held.add(path[:length])
            below = _of_step(below, step)
    return frozenset(held)


# ---- walking ----


@dataclass(frozen=True, slots=True)
class _Pair:
    """One place in two objects."""

    old: Any
    new: Any
    schema: Schema
    path: Path


def _owned_part(obj: Object) -> Object:
    part = {name: value for name, value in obj.items() if name not in _ENVELOPE}
    metadata = {name: value for name, value in obj.get("metadata", {}).items() if name not in _SYSTEM}
    return {**part, "metadata": metadata} if metadata else part


def _leaves(node: Any, schema: Schema, path: Path) -> Iterator[Path]:
    """Scalars, atomic collections, empty maps, and the items of granular lists. (An empty list owns nothing.)"""
    if isinstance(node, dict) and node and _granular_map(schema):
        for name, value in node.items():
            if value and _is_entry(schema, name) and _granular(value, _of_property(schema, name)):
                yield (*path, name)
            yield from _leaves(value, _of_property(schema, name), (*path, name))
    elif isinstance(node, list) and _list_type(schema) != "atomic":
        for step, item in _items(node, schema).items():
            yield (*path, step)
            rest = _beside_keys(item, schema)
            if rest:
                yield from _leaves(rest, schema.get("items", {}), (*path, step))
    else:
        yield path


def _everything(node: Any, schema: Schema, path: Path) -> Iterator[Path]:
    """Like _leaves, and every collection on the way."""
    yield path
    for step, child, below in _children(node, schema):
        yield from _everything(child, below, (*path, step))


def _compare(pair: _Pair, written: set[Path], removed: set[Path]) -> None:
    if pair.old is _NOTHING:
        written.update(_everything(pair.new, pair.schema, pair.path))
    elif pair.new is _NOTHING:
        removed.update(_everything(pair.old, pair.schema, pair.path))
    elif type(pair.old) is type(pair.new) and _granular(pair.new, pair.schema):
        old = {step: (child, schema) for step, child, schema in _children(pair.old, pair.schema)}
        new = {step: (child, schema) for step, child, schema in _children(pair.new, pair.schema)}
        for step in old.keys() | new.keys():
            schema = (new.get(step) or old[step])[1]
            before, after = (side.get(step, (_NOTHING,))[0] for side in (old, new))
            _compare(_Pair(before, after, schema, (*pair.path, step)), written, removed)
    elif pair.old != pair.new:
        removed.update(_everything(pair.old, pair.schema, pair.path))
        written.update(_everything(pair.new, pair.schema, pair.path))


def _children(node: Any, schema: Schema) -> Iterator[tuple[Step, Any, Schema]]:
    """(step, value, its schema) below a granular collection; an item's keys are its step and no children."""
    if not _granular(node, schema):
        return
    if isinstance(node, dict):
        for name, value in node.items():
            yield name, value, _of_property(schema, name)
    else:
        for step, item in _items(node, schema).items():
            yield step, _beside_keys(item, schema), schema.get("items", {})


def _granular(node: Any, schema: Schema) -> bool:
    if isinstance(node, dict):
        return _granular_map(schema)
    return isinstance(node, list) and _list_type(schema) != "atomic"


def _items(node: list[Any], schema: Schema) -> dict[Step, Any]:
    type_ = _list_type(schema)
    return {_step(item, schema, type_): item for item in node}


def _beside_keys(item: Any, schema: Schema) -> Any:
    """A list item without its keys: they are its name, and go with it."""
    if not isinstance(item, dict):
        return item
    keys = schema.get("x-kubernetes-list-map-keys", [])
    return {name: value for name, value in item.items() if name not in keys}


def _merged(live: Any, wanted: Any, schema: Schema) -> Any:
    """A new value; parts of both may be shared with it."""
    if isinstance(live, dict) and isinstance(wanted, dict) and _granular_map(schema):
        merged = dict(live)
        for name, value in wanted.items():
            merged[name] = _merged(live[name], value, _of_property(schema, name)) if name in live else value
        return merged
    if isinstance(live, list) and isinstance(wanted, list) and _granular(wanted, schema):
        return _merged_lists(live, wanted, schema)
    return live if wanted is None and _granular(live, schema) else wanted  # null asks nothing of a collection


def _merged_lists(live: list[Any], wanted: list[Any], schema: Schema) -> list[Any]:
    """The order of `wanted`; an item of `live` alone stays before the shared one that followed it."""
    old, new = _items(live, schema), _items(wanted, schema)
    order: list[Step] = []
    pending = list(new)
    shared = [step for step in new if step in old]
    for step in old:
        if step not in new:
            order.append(step)
        elif shared and step == shared[0]:
            until = pending.index(step) + 1
            order += pending[:until]
            del pending[:until], shared[0]
    below = schema.get("items", {})
    both = {step: _merged(old[step], new[step], below) for step in new if step in old}
    items = {**old, **new, **both}
    return [items[step] for step in [*order, *pending]]


def _remove(obj: Object, fields: Fields, schema: Schema, *, held: Fields) -> dict[Path, bool]:
    """Takes fields out, in place. Returns the held collections that are empty then; True where null is forgiven:
    metadata drops it, and a default takes its place."""
    emptied: dict[Path, bool] = {}
    for path in sorted(fields, key=len):
        for depth, has_default in _remove_one(obj, path, schema):
            if path[:depth] in held:
                emptied[path[:depth]] = has_default or path[0] == "metadata"
    return emptied


def _remove_one(obj: Object, path: Path, schema: Schema) -> list[tuple[int, bool]]:
    """Takes one field out, and the collections above that are empty then: (depth, whether it has a default) of each."""
    trail: list[tuple[Any, Any, Schema]] = []
    node: Any = obj
    for step in path:
        at, child, schema = _descend(node, step, schema)
        if at is None:
            return []
        copied = child.copy() if isinstance(child, dict | list) else child
        node[at] = copied  # the merged object shares its parts with others
        trail.append((node, at, schema))
        node = copied
    empty = []
    for depth, (parent, at, below) in reversed(list(enumerate(trail, start=1))):
        if depth < len(path):
            if parent[at]:
                break
            empty.append((depth, "default" in below))
        del parent[at]
    return empty


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
        found = _ANYTHING if _keeps_unknown(schema) else schema.get("additionalProperties")
    return found if isinstance(found, dict) else {}


def _of_step(schema: Schema, step: Step) -> Schema:
    if isinstance(step, str):
        return _of_property(schema, step)
    items: Schema = schema.get("items", {})
    return items


def _is_entry(schema: Schema, step: Step) -> bool:
    """Whether the step leads to a list item or to a map entry, which are owned themselves, and not to a named field."""
    if not isinstance(step, str):
        return True
    named = step in schema.get("properties", {})
    return not named and (_keeps_unknown(schema) or isinstance(schema.get("additionalProperties"), dict))


def _keeps_unknown(schema: Schema) -> bool:
    return bool(schema.get("x-kubernetes-preserve-unknown-fields"))


def _step(item: Any, schema: Schema, type_: str) -> Step:
    """The name of a list item: the values of its keys (their defaults count), or the item itself in a set."""
    if type_ == "set" or not isinstance(item, dict):
        return ("=", item if not isinstance(item, dict | list) else repr(item))
    properties = schema.get("items", {}).get("properties", {})
    keys = schema.get("x-kubernetes-list-map-keys", [])
    return tuple((key, item.get(key, properties.get(key, {}).get("default"))) for key in keys)
