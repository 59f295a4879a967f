"""The objects of a memory cluster, with versions, journals and the garbage collector. Called by memory.

Everything here is synchronous: one write and all that follows from it happen at once.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind, timestamp
from knative_lambda.cluster.base import Invalid, Object, Propagation
from knative_lambda.cluster.definitions import Definition
from knative_lambda.cluster.fieldownership import Owners
from knative_lambda.cluster.journal import Change, Journal, Stored
from knative_lambda.cluster.selectors import Traits
from knative_lambda.kit.clock import Clock

FOREGROUND = "foregroundDeletion"


class Store:
    """Tables by kind. `version` is the resourceVersion of the whole store, as in etcd."""

    def __init__(self, *, clock: Clock, history: int) -> None:
        self._clock = clock
        self._tables: defaultdict[Kind, dict[Key, Stored]] = defaultdict(dict)
        self._journals: defaultdict[Kind, Journal] = defaultdict(lambda: Journal(limit=history))
        self._dependents: defaultdict[str, set[tuple[Kind, Key]]] = defaultdict(set)
        self._places: dict[str, tuple[Kind, Key]] = {}
        self._definitions: dict[Kind, Definition] = {}
        self._gone: set[str] = set()
        """Uids of deleted objects: whatever names one of them as its owner is collected, also when it comes later."""
        self.version = 1

    def copy(self) -> Store:
        """The same objects without their history. Both go their own way from then on."""
        twin = Store(clock=self._clock, history=1)
        twin.version = self.version
        twin._tables.update({kind: dict(table) for kind, table in self._tables.items()})
        twin._dependents.update({uid: set(places) for uid, places in self._dependents.items()})
        twin._places = dict(self._places)
        twin._definitions = dict(self._definitions)
        twin._gone = set(self._gone)
        return twin

    # ---- kinds ----

    def install(self, definition: Definition) -> None:
        self._definitions[definition.kind] = definition

    def uninstall(self, kind: Kind) -> None:
        """Deletes the kind with all its objects, whatever their finalizers say."""
        if kind in self._definitions:
            for stored in list(self._tables[kind].values()):
                self._remove(self._definitions[kind], stored)
            del self._definitions[kind]

    def definition(self, kind: Kind) -> Definition | None:
        return self._definitions.get(kind)

    def definitions(self) -> list[Definition]:
        found = self._definitions.values()
        return sorted(found, key=lambda one: (one.kind.group, one.kind.version, one.kind.plural))

    # ---- reading ----

    def find(self, kind: Kind, key: Key) -> Stored | None:
        return self._tables[kind].get(key)

    def all(self, kind: Kind) -> list[Stored]:
        """In the order of their keys, as etcd has them."""
        return sorted(self._tables[kind].values(), key=lambda stored: stored.key)

    def journal(self, kind: Kind) -> Journal:
        return self._journals[kind]

    def journals(self) -> Iterable[Journal]:
        return list(self._journals.values())

    # ---- writing ----

    def insert(self, definition: Definition, obj: Object, owners: Owners) -> Stored:
        """Stores a new object under a fresh uid."""
        metadata: dict[str, Any] = obj["metadata"]
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields"):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = timestamp(self._clock.now())
        if definition.has_generation:
            metadata["generation"] = 1
        stored = self._put(definition, None, obj, owners)
        if any(uid in self._gone for uid in stored.owner_uids):
            self._collect(definition.kind, stored.key)
        return stored

    def update(self, definition: Definition, live: Stored, obj: Object, owners: Owners) -> Stored:
        """Stores the next state of an object; writes nothing when nothing changed. Removes it when that was due."""
        if owners == live.owners and obj == live.object():
            return live
        metadata = obj["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            self._remove(definition, live)  # watchers are told of the deletion alone
            return _stored(definition, obj, self.version, owners)
        return self._put(definition, live, obj, owners)

    def delete(self, definition: Definition, stored: Stored, propagation: Propagation) -> None:
        """Starts deletion; with finalizers the object stays until they are gone."""
        obj = stored.object()
        metadata = obj["metadata"]
        if propagation == "Orphan":
            self._orphan(stored.uid)
        finalizers = list(metadata.get("finalizers", ()))
        if propagation == "Foreground" and self._dependents[stored.uid] and FOREGROUND not in finalizers:
            finalizers.append(FOREGROUND)
        if not finalizers:
            self._remove(definition, stored)
            return
        metadata["finalizers"] = finalizers
        if "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = timestamp(self._clock.now())
            metadata["deletionGracePeriodSeconds"] = 0
            if definition.has_generation:
                metadata["generation"] += 1
        self.update(definition, stored, obj, stored.owners)
        if FOREGROUND in finalizers:
            for kind, key in _ordered(self._dependents[stored.uid]):
                self._collect(kind, key)

    def _put(self, definition: Definition, before: Stored | None, obj: Object, owners: Owners) -> Stored:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        after = _stored(definition, obj, self.version, owners)
        self._index(definition.kind, before, after)
        self._tables[definition.kind][after.key] = after
        self._journals[definition.kind].add(Change(self.version, before, after))
        return after

    def _remove(self, definition: Definition, stored: Stored) -> None:
        self.version += 1
        del self._tables[definition.kind][stored.key]
        self._index(definition.kind, stored, None)
        self._gone.add(stored.uid)
        self._journals[definition.kind].add(Change(self.version, stored, None))
        for kind, key in _ordered(self._dependents.pop(stored.uid, ())):
            self._collect(kind, key)
        for uid in stored.owner_uids:
            self._release(uid)
        if definition.kind == kinds.NAMESPACE:
            self._empty(stored.key.name)

    def _index(self, kind: Kind, before: Stored | None, after: Stored | None) -> None:
        if before is not None:
            for uid in before.owner_uids:
                self._dependents[uid].discard((kind, before.key))
            self._places.pop(before.uid, None)
        if after is not None:
            for uid in after.owner_uids:
                self._dependents[uid].add((kind, after.key))
            self._places[after.uid] = (kind, after.key)

    # ---- garbage ----

    def _collect(self, kind: Kind, key: Key) -> None:
        """Deletes an object all of whose owners are gone or going in the foreground."""
        stored, definition = self.find(kind, key), self._definitions.get(kind)
        if stored is None or definition is None or any(self._alive(uid) for uid in stored.owner_uids):
            return
        self.delete(definition, stored, "Background")

    def _alive(self, uid: str) -> bool:
        if uid in self._gone:
            return False
        owner = self._by_uid(uid)
        return owner is None or FOREGROUND not in owner[1].object()["metadata"].get("finalizers", ())

    def _release(self, uid: str) -> None:
        """The last dependent of an owner that goes in the foreground went: it may go, too."""
        if self._dependents.get(uid) or (found := self._by_uid(uid)) is None:
            return
        kind, stored = found
        obj = stored.object()
        finalizers = obj["metadata"].get("finalizers", [])
        if FOREGROUND in finalizers:
            obj["metadata"]["finalizers"] = [one for one in finalizers if one != FOREGROUND]
            self.update(self._definitions[kind], stored, obj, stored.owners)

    def _orphan(self, uid: str) -> None:
        for kind, key in _ordered(self._dependents.pop(uid, ())):
            stored = self.find(kind, key)
            if stored is not None:
                obj = stored.object()
                references = obj["metadata"]["ownerReferences"]
                obj["metadata"]["ownerReferences"] = [one for one in references if one.get("uid") != uid]
                self.update(self._definitions[kind], stored, obj, stored.owners)

    def _empty(self, namespace: str) -> None:
        for kind, stored in self._everything():
            if stored.key.namespace == namespace and self.find(kind, stored.key) is not None:
                self.delete(self._definitions[kind], stored, "Background")

    def _by_uid(self, uid: str) -> tuple[Kind, Stored] | None:
        found = self._places.get(uid)
        return (found[0], self._tables[found[0]][found[1]]) if found else None

    def _everything(self) -> Iterator[tuple[Kind, Stored]]:
        for kind, table in list(self._tables.items()):
            for stored in list(table.values()):
                yield kind, stored


def _ordered(places: Iterable[tuple[Kind, Key]]) -> list[tuple[Kind, Key]]:
    return sorted(places, key=lambda place: (place[0].plural, place[1]))


def encoded(obj: Object) -> bytes:
    """Raises Invalid for what JSON cannot say."""
    try:
        return orjson.dumps(obj)
    except TypeError as error:
        raise Invalid(f"not JSON: {error}") from error


def _stored(definition: Definition, obj: Object, version: int, owners: Owners) -> Stored:
    metadata = obj["metadata"]
    key = Key(metadata.get("namespace", ""), metadata["name"])
    fields = {path: str(_at(obj, path)) for path in definition.selectable}
    return Stored(
        key=key,
        raw=encoded(obj),
        version=version,
        uid=metadata["uid"],
        owner_uids=tuple(one["uid"] for one in metadata.get("ownerReferences") or ()),
        traits=Traits(key.namespace, metadata.get("labels") or {}, fields),
        owners=owners,
    )


def _at(obj: Object, path: str) -> Any:
    node: Any = obj
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return "" if node is None else node
