"""The memory twin of an API server: local mode runs on it, and tests.

It keeps versions, conflicts, field ownership, subresources, watches, finalizers and owner garbage as a real one does;
one contract suite holds both to the same behaviour. It runs no controllers (Jobs make no Pods), evaluates no CEL
(give `validators`), knows schemas only of the kinds that `definitions` describe, and lets objects be made in
namespaces that do not exist. Beside the port it has a few levers that play a bad day: `fail_next`, `latency`,
`cut_watches`, `compact`, `install`, `uninstall`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import orjson

from knative_lambda.api import kinds
from knative_lambda.api.meta import FIELD_MANAGER, Key, Kind
from knative_lambda.cluster import admission, definitions, errors, fieldownership, paths, selectors, structural
from knative_lambda.cluster.base import (
    EVERYTHING,
    AlreadyExists,
    ClusterError,
    Conflict,
    Gone,
    Invalid,
    Object,
    Page,
    Propagation,
    Selection,
    Unavailable,
    WatchEvent,
)
from knative_lambda.cluster.counts import RequestCounts
from knative_lambda.cluster.definitions import Definition
from knative_lambda.cluster.faults import Fault, Faults
from knative_lambda.cluster.journal import Stored, bookmark
from knative_lambda.cluster.store import Store, encoded
from knative_lambda.kit.clock import Clock

Validator = Callable[[Object], object]
"""Raises ValueError for an object that the server shall refuse: what CEL rules say on a real one."""

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_SNAPSHOTS = 16
"""Lists that are being paged at once; older continue tokens expire."""


class MemoryCluster:
    """The port `Cluster` in memory. Not thread-safe: one event loop owns it."""

    def __init__(
        self,
        *,
        clock: Clock,
        definitions: Iterable[Object] = (),
        kinds: Iterable[Kind] = (),
        validators: Mapping[Kind, Validator] | None = None,
        history: int = 10_000,
        bookmark_seconds: float = 60.0,
    ) -> None:
        """`definitions` are CustomResourceDefinitions, `kinds` are installed without a schema (Knative's, say).

        `history` is how many changes per kind a watch may lag behind before it is Gone.
        """
        self.counts = RequestCounts()
        self.latency = 0.0
        """Seconds that every call takes on the clock."""
        self._clock = clock
        self._store = Store(clock=clock, history=history)
        self._validators = dict(validators or {})
        self._faults = Faults()
        self._bookmark_seconds = bookmark_seconds
        self._compacted = 0
        self._snapshots: dict[str, tuple[int, list[Stored]]] = {}
        self._snapshot_ids = itertools.count(1)
        self._closed = False
        self._install_all(definitions, kinds)

    def _install_all(self, crds: Iterable[Object], plain: Iterable[Kind]) -> None:
        for definition in [*definitions.builtins(), *map(definitions.plain, plain)]:
            self._store.install(definition)
        for crd in crds:
            self._create(self._definition(kinds.CUSTOM_RESOURCE_DEFINITION, "create"), orjson.loads(encoded(crd)))

    # ---- the port: reading ----

    async def get(self, kind: Kind, key: Key) -> Object:
        async with self._call("get", kind) as definition:
            return self._stored(definition, key, "get").object()

    async def list(
        self, kind: Kind, selection: Selection = EVERYTHING, *, limit: int = 500, continue_token: str = ""
    ) -> Page:
        async with self._call("list", kind) as definition:
            matcher = selectors.compiled(selection, fields=definition.selectable)
            if continue_token:
                return self._page(continue_token, limit)
            found = [one for one in self._store.all(kind) if matcher.matches(one.traits)]
            token = str(next(self._snapshot_ids))
            self._snapshots[token] = (self._store.version, found)
            if len(self._snapshots) > _SNAPSHOTS:
                del self._snapshots[next(iter(self._snapshots))]
            return self._page(f"{token}.0", limit)

    async def watch(
        self, kind: Kind, selection: Selection = EVERYTHING, *, resource_version: str, seconds: int = 300
    ) -> AsyncIterator[WatchEvent]:
        async with self._call("watch", kind) as definition:
            matcher = selectors.compiled(selection, fields=definition.selectable)
            cursor = self._cursor(resource_version)
        journal, bell = self._store.journal(kind), asyncio.Event()
        alarm = _Alarm(self._clock, bell, period=self._bookmark_seconds, until=self._clock.monotonic() + seconds)
        cut = journal.cut
        journal.listen(bell)
        try:
            while not self._closed:
                bell.clear()
                changes, cursor = journal.after(cursor), self._store.version
                for change in changes:
                    if event := change.event(matcher):
                        yield event
                if journal.cut != cut:
                    raise Unavailable(f"watch {kind}: the connection was cut")
                if alarm.rang():
                    yield bookmark(kind.api_version, kind.kind, cursor)
                if alarm.over():
                    return
                await bell.wait()
        finally:
            alarm.stop()
            journal.leave(bell)

    async def served(self, kind: Kind) -> bool:
        async with self._call("discover", kind, installed=False):
            return self._store.definition(kind) is not None

    # ---- the port: writing ----

    async def create(self, kind: Kind, obj: Object) -> Object:
        key = paths.key_of(kind, obj)
        async with self._call("create", kind) as definition:
            paths.require_namespace(kind, key)
            return self._create(definition, orjson.loads(encoded(obj))).object()

    async def apply(self, kind: Kind, obj: Object, *, manager: str = FIELD_MANAGER, force: bool = True) -> Object:
        key = paths.named_key_of(kind, obj)
        async with self._call("apply", kind) as definition:
            paths.require_namespace(kind, key)
            return self._apply(definition, orjson.loads(encoded(obj)), manager=manager, force=force).object()

    async def patch(self, kind: Kind, key: Key, patch: Object, *, subresource: str = "") -> Object:
        async with self._call("patch", kind, subresource=subresource) as definition:
            live = self._stored(definition, key, "patch")
            obj = live.object()
            sent = orjson.loads(encoded(patch))
            admission.guard(kind, key, live=obj["metadata"], sent=sent.get("metadata") or {})
            wanted = admission.envelope(kind, merge_patched(obj, sent))
            return self._update(definition, live, wanted, subresource=subresource).object()

    async def replace(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        key = paths.named_key_of(kind, obj)
        async with self._call("replace", kind, subresource=subresource) as definition:
            live = self._stored(definition, key, "replace")
            sent = admission.envelope(kind, orjson.loads(encoded(obj)))
            if not sent["metadata"].get("resourceVersion"):
                raise Invalid(f"replace {kind} {key}: metadata.resourceVersion must be given")
            admission.guard(kind, key, live=live.object()["metadata"], sent=sent["metadata"])
            return self._update(definition, live, sent, subresource=subresource).object()

    async def delete(
        self, kind: Kind, key: Key, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        async with self._call("delete", kind) as definition:
            stored = self._stored(definition, key, "delete")
            if uid is not None and uid != stored.uid:
                raise Conflict(f"delete {kind} {key}: precondition failed: UID {uid}, the object's is {stored.uid}")
            self._store.delete(definition, stored, propagation)
            if kind == kinds.CUSTOM_RESOURCE_DEFINITION:
                for one in definitions.kinds_of_crd(stored.object()):
                    self.uninstall(one)

    async def close(self) -> None:
        self._closed = True
        for journal in self._store.journals():
            journal.ring()

    # ---- a bad day ----

    def fail_next(
        self, verb: str, kind: Kind | None, error: ClusterError, *, times: int = 1, after: bool = False
    ) -> None:
        """The next `times` calls of that verb (`*`: any) and kind (None: any) raise `error`.

        Verbs are those of RequestCounts. With `after`, the call is done first and only its answer is lost.
        """
        self._faults.add(Fault(verb, kind, error, times, after))

    def recover(self) -> None:
        """Forgets every failure that is still to come."""
        self._faults.clear()
        self.latency = 0.0

    def cut_watches(self, kind: Kind | None = None) -> None:
        """Breaks the running watches of that kind, or all."""
        for journal in [self._store.journal(kind)] if kind else self._store.journals():
            journal.cut_watches()

    def compact(self) -> None:
        """Forgets history: watches from an older version, and lists half paged, are Gone. Running watches go on."""
        self._compacted = self._store.version
        self._snapshots.clear()
        for journal in self._store.journals():
            journal.compact()

    def install(self, kind: Kind) -> None:
        """From now on that kind exists, without a schema. (Creating its CustomResourceDefinition brings one.)"""
        self._store.install(definitions.plain(kind))

    def installed(self) -> tuple[Definition, ...]:
        """Every kind that there is, in the order of group, version and plural."""
        return tuple(self._store.definitions())

    def copy(self) -> MemoryCluster:
        """Another cluster with the same kinds and objects; what is written there is a rehearsal (dry runs)."""
        twin = MemoryCluster(clock=self._clock, validators=self._validators)
        twin._store = self._store.copy()
        return twin

    def uninstall(self, kind: Kind) -> None:
        """That kind and all its objects are gone; its watches break."""
        self._store.uninstall(kind)
        self._store.journal(kind).cut_watches()

    # ---- inside ----

    @asynccontextmanager
    async def _call(
        self, verb: str, kind: Kind, *, subresource: str = "", installed: bool = True
    ) -> AsyncIterator[Definition]:
        """Around every request: counts, waits, fails on request, and finds the kind's definition."""
        verb = f"{verb}_{subresource}" if subresource else verb
        if self._closed:
            raise Unavailable("the cluster was closed")
        self.counts.add(verb, kind)
        await self._clock.sleep(self.latency)
        if error := self._faults.take(verb, kind, after=False):
            raise error
        definition = self._definition(kind, verb) if installed else definitions.plain(kind)
        if subresource and not (subresource == "status" and definition.has_status):
            raise errors.kind_not_installed(kind, what=f"{verb} {kind}")
        yield definition
        if error := self._faults.take(verb, kind, after=True):
            raise error

    def _definition(self, kind: Kind, verb: str) -> Definition:
        definition = self._store.definition(kind)
        if definition is None:
            raise errors.kind_not_installed(kind, what=f"{verb} {kind}")
        return definition

    def _stored(self, definition: Definition, key: Key, verb: str) -> Stored:
        paths.require_namespace(definition.kind, key)
        stored = self._store.find(definition.kind, key)
        if stored is None:
            raise errors.missing(definition.kind, key, what=f"{verb} {definition.kind} {key}")
        return stored

    def _create(self, definition: Definition, sent: Object) -> Stored:
        obj = admission.envelope(definition.kind, sent)
        metadata = obj["metadata"]
        if metadata.get("resourceVersion"):
            raise Invalid("resourceVersion should not be set on objects to be created")
        if not metadata.get("name"):
            metadata["name"] = metadata["generateName"] + "".join(random.choices(_SUFFIX, k=5))  # noqa: S311 - a name
        self._complete_new(definition, obj)
        key = paths.named_key_of(definition.kind, obj)
        if self._store.find(definition.kind, key) is not None:
            raise AlreadyExists(f'create {definition.kind} {key}: {definition.kind.plural} "{key.name}" already exists')
        owners = fieldownership.update(
            {}, self._owned(definition, obj), schema=definition.merge_schema, owners={}, manager=FIELD_MANAGER
        )
        return self._insert(definition, obj, owners)

    def _complete_new(self, definition: Definition, obj: Object) -> None:
        if definition.has_status:
            obj.pop("status", None)
        self._admit(definition, obj, strict=True)
        if definition.initial_status:
            obj["status"] = dict(definition.initial_status)

    def _insert(self, definition: Definition, obj: Object, owners: fieldownership.Owners) -> Stored:
        stored = self._store.insert(definition, obj, owners)
        self._follow_definitions(definition, obj)
        return stored

    def _update(self, definition: Definition, live: Stored, wanted: Object, *, subresource: str) -> Stored:
        """A plain write: status only through its subresource, everything else only without it."""
        before = live.object()
        wanted = _part(definition, before, wanted, subresource=subresource)
        new = admission.successor(before, wanted)
        self._admit(definition, new, strict=False)
        admission.advance(definition, before, new)
        owners = live.owners
        if not subresource:
            old, fields = self._owned(definition, before), self._owned(definition, new)
            schema = definition.merge_schema
            owners = fieldownership.update(old, fields, schema=schema, owners=owners, manager=FIELD_MANAGER)
        stored = self._store.update(definition, live, new, owners)
        self._follow_definitions(definition, new)
        return stored

    def _apply(self, definition: Definition, sent: Object, *, manager: str, force: bool) -> Stored:
        kind = definition.kind
        wanted = self._owned(definition, admission.envelope(kind, sent))
        if "managedFields" in wanted["metadata"]:
            raise Invalid("metadata.managedFields must be nil")
        if twice := list(structural.duplicates(wanted, definition.merge_schema)):
            raise admission.invalid(kind, wanted, "; ".join(twice))
        key = paths.named_key_of(kind, wanted)
        live = self._store.find(kind, key)
        before: Object = live.object() if live else {"metadata": {}}
        if live is None and wanted["metadata"].get("resourceVersion"):
            raise errors.missing(kind, key, what=f"apply {kind} {key}")
        if live is not None:
            admission.guard(kind, key, live=before["metadata"], sent=wanted["metadata"])
        owners = live.owners if live else {}
        result = fieldownership.apply(
            self._owned(definition, before), wanted, schema=definition.merge_schema, owners=owners, manager=manager
        )
        if result.conflicts and not force:
            raise Conflict(f"apply {kind} {key}: {_spelled(result.conflicts)}")
        if result.emptied and definition.structure is not None:
            names = ", ".join(sorted(map(fieldownership.spelled, result.emptied)))
            raise admission.invalid(kind, wanted, f'{names}: Invalid value: "null"')
        if live is None:
            self._complete_new(definition, result.obj)
            return self._insert(definition, result.obj, result.owners)
        new = admission.successor(before, _part(definition, before, result.obj, subresource=""))
        self._admit(definition, new, strict=True)
        admission.advance(definition, before, new)
        return self._store.update(definition, live, new, result.owners)

    @staticmethod
    def _owned(definition: Definition, obj: Object) -> Object:
        """The part of an object whose fields have owners: status is written by one and read by all."""
        return {name: value for name, value in obj.items() if not (name == "status" and definition.has_status)}

    def _admit(self, definition: Definition, obj: Object, *, strict: bool) -> None:
        admission.completed(definition, obj, strict=strict)
        validator = self._validators.get(definition.kind)
        if validator is None:
            return
        try:
            validator(orjson.loads(encoded(obj)))
        except ValueError as error:
            raise admission.invalid(definition.kind, obj, str(error)) from error

    def _follow_definitions(self, definition: Definition, obj: Object) -> None:
        """A CustomResourceDefinition that was written installs its kinds."""
        if definition.kind == kinds.CUSTOM_RESOURCE_DEFINITION:
            for one in definitions.of_crd(obj):
                self._store.install(one)

    def _page(self, token: str, limit: int) -> Page:
        name, _, start = token.partition(".")
        if name not in self._snapshots or not start.isdigit():
            raise Gone("the provided continue parameter is too old")
        version, found = self._snapshots[name]
        end = int(start) + limit if limit > 0 else len(found)
        items = [stored.object() for stored in found[int(start) : end]]
        more = end < len(found)
        if not more and start == "0":
            del self._snapshots[name]
        return Page(items, str(version), f"{name}.{end}" if more else "")

    def _cursor(self, resource_version: str) -> int:
        if not resource_version.isdigit():
            raise Invalid(f"invalid resource version {resource_version[:40]!r}")
        cursor = int(resource_version)
        if cursor < self._compacted:
            raise Gone(f"too old resource version: {cursor} ({self._compacted})")
        return cursor


class _Alarm:
    """Rings a watch's bell when a bookmark is due and when its time is over."""

    def __init__(self, clock: Clock, bell: asyncio.Event, *, period: float, until: float) -> None:
        self._clock = clock
        self._bell = bell
        self._period = period
        self._until = until
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._arm()

    def rang(self) -> bool:
        """Whether a bookmark is due; the next one is then awaited."""
        if self._clock.monotonic() < self._due:
            return False
        self.stop()
        self._arm()
        return True

    def over(self) -> bool:
        return self._clock.monotonic() >= self._until

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _arm(self) -> None:
        self._due = min(self._clock.monotonic() + self._period, self._until)
        self._task = asyncio.create_task(self._ring(self._due - self._clock.monotonic()))

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._bell.set()


def merge_patched(target: object, patch: object) -> Object:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items() if isinstance(patch, dict) else ():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patched(merged.get(name), value) if isinstance(value, dict) else value
    return merged


def _part(definition: Definition, live: Object, wanted: Object, *, subresource: str) -> Object:
    """`wanted` as far as this request may write it."""
    if not definition.has_status:
        return wanted
    source, base = (live, wanted) if not subresource else (wanted, live)
    part = {name: value for name, value in base.items() if name != "status"}
    return {**part, "status": source["status"]} if "status" in source else part


def _spelled(conflicts: Mapping[fieldownership.Owner, fieldownership.Fields]) -> str:
    parts = []
    for (manager, _), fields in sorted(conflicts.items()):
        names = ", ".join(sorted(fieldownership.spelled(path) for path in fields))
        parts.append(f'conflict with "{manager}": {names}')
    return "; ".join(parts)
