"""Reads that include our own writes, although the informer has not shown them yet.

Without it, a reconcile that runs between a write and its watch event would see the past and write again. Made by
wiring, one per store; read by `observe`, filled by `act` and `report`, told of echoes by `handlers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.store import Store

BY_FUNCTION = "function"
"""Index of the stores of children: the function that their labels name."""
ARRIVAL = 30.0
"""Seconds in which a watch must show an object that we created; later, its absence means that it was deleted."""


class Versioned(Protocol):
    """What every projected object has."""

    @property
    def key(self) -> Key: ...

    @property
    def uid(self) -> str: ...

    @property
    def resource_version(self) -> str: ...


T = TypeVar("T", bound=Versioned)


@dataclass(frozen=True, slots=True)
class _Own(Generic[T]):
    seen: T
    written_at: float


class Fresh(Generic[T]):
    """One kind's store, corrected by what we wrote a moment ago."""

    def __init__(self, store: Store[T], *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._own: dict[Key, _Own[T]] = {}
        self._of_function: dict[Key, set[Key]] = {}

    def get(self, key: Key) -> T | None:
        """The newest state that we know of."""
        stored, own = self._store.get(key), self._own.get(key)
        if own is None:
            return stored
        if self._outdated(own, stored):
            self.forget(key)
            return stored
        return own.seen

    def of_function(self, function: Key) -> list[T]:
        """The children that name this function, our own latest ones among them. The store needs BY_FUNCTION."""
        keys = dict.fromkeys(seen.key for seen in self._store.by_index(BY_FUNCTION, function))
        keys.update(dict.fromkeys(self._of_function.get(function, ())))
        found = [seen for key in keys if (seen := self.get(key)) is not None]
        return [seen for seen in found if _function(seen) == function]

    def record(self, seen: T) -> None:
        """Remembers what the server answered to a write of ours."""
        self.forget(seen.key)
        self._own[seen.key] = _Own(seen, self._clock.monotonic())
        if function := _function(seen):
            self._of_function.setdefault(function, set()).add(seen.key)

    def forget(self, key: Key) -> None:
        """The object is gone, or the store knows it as well as we do."""
        own = self._own.pop(key, None)
        function = _function(own.seen) if own is not None else None
        if function is None:
            return
        self._of_function[function].discard(key)
        if not self._of_function[function]:
            del self._of_function[function]

    def is_echo(self, seen: T) -> bool:
        """Whether a watch shows exactly what our own write answered; then there is nothing new in it."""
        own = self._own.get(seen.key)
        if own is None or own.seen.resource_version != seen.resource_version:
            return False
        self.forget(seen.key)
        return True

    def _outdated(self, own: _Own[T], stored: T | None) -> bool:
        if stored is None:
            return self._clock.monotonic() - own.written_at > ARRIVAL
        return stored.uid != own.seen.uid or not _newer(own.seen.resource_version, stored.resource_version)


def _function(seen: Versioned) -> Key | None:
    """The function that a child names; functions and Brokers are no children."""
    return getattr(seen, "function", None)


def _newer(version: str, than: str) -> bool:
    """Versions of one kind are ordered as integers (Kubernetes KEP 5504)."""
    return int(version) > int(than) if version.isdigit() and than.isdigit() else False
