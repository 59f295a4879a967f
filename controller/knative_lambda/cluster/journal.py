"""What changed, in order and for a while: from it memory answers watches, and refuses those that come too late."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import EventKind, Gone, Object, WatchEvent
from knative_lambda.cluster.fieldownership import Owners
from knative_lambda.cluster.selectors import Matcher, Traits


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as it lies in memory: bytes, so that every reader gets a copy of its own, and what is looked up."""

    key: Key
    raw: bytes
    version: int
    uid: str
    owner_uids: tuple[str, ...]
    traits: Traits
    owners: Owners = field(default_factory=dict)

    def object(self) -> Object:
        obj: Object = orjson.loads(self.raw)
        return obj


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one object; `after` is None when it was deleted."""

    version: int
    before: Stored | None
    after: Stored | None

    def event(self, matcher: Matcher) -> WatchEvent | None:
        """As a watcher with that selection sees it: an object that leaves the selection is deleted for him."""
        was = self.before is not None and matcher.matches(self.before.traits)
        now = self.after is not None and matcher.matches(self.after.traits)
        if now and self.after is not None:
            return WatchEvent(EventKind.MODIFIED if was else EventKind.ADDED, self.after.object())
        if was and self.before is not None:
            obj = self.before.object()
            obj["metadata"]["resourceVersion"] = str(self.version)
            return WatchEvent(EventKind.DELETED, obj)
        return None


class Journal:
    """The changes of one kind, the last `limit` of them at least."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._versions: list[int] = []
        self._changes: list[Change] = []
        self._lost = 0
        """Version of the newest change that is no longer here."""
        self._cut = 0
        self._bells: set[asyncio.Event] = set()

    @property
    def cut(self) -> int:
        """Grows with every `cut_watches`; a watch that sees it grow is broken."""
        return self._cut

    def add(self, change: Change) -> None:
        self._versions.append(change.version)
        self._changes.append(change)
        if len(self._changes) >= 2 * self._limit:
            self._forget(len(self._changes) - self._limit)
        self.ring()

    def after(self, version: int) -> Sequence[Change]:
        """Changes younger than that version; Gone when some of them were forgotten."""
        if version < self._lost:
            raise Gone(f"too old resource version: {version} ({self._lost})")
        return self._changes[bisect_right(self._versions, version) :]

    def compact(self) -> None:
        self._forget(len(self._changes))

    def cut_watches(self) -> None:
        self._cut += 1
        self.ring()

    def listen(self, bell: asyncio.Event) -> None:
        """The bell is set at every change from now on, until `leave`."""
        self._bells.add(bell)

    def leave(self, bell: asyncio.Event) -> None:
        self._bells.discard(bell)

    def ring(self) -> None:
        for bell in self._bells:
            bell.set()

    def _forget(self, count: int) -> None:
        if count:
            self._lost = self._versions[count - 1]
            del self._versions[:count]
            del self._changes[:count]


def bookmark(api_version: str, kind: str, version: int) -> WatchEvent:
    """A BOOKMARK: everything up to that version was sent."""
    metadata: Mapping[str, str] = {"resourceVersion": str(version)}
    return WatchEvent(EventKind.BOOKMARK, {"apiVersion": api_version, "kind": kind, "metadata": dict(metadata)})
