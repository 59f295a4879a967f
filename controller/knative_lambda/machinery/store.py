"""What an informer knows now: objects by key, and by the indexes that its owner asked for. Read by reconcilers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from knative_lambda.api.meta import Key

T = TypeVar("T")

Indexer = Callable[[T], Iterable[Hashable]]
"""Pure: the values under which an object is found; none hides it from that index."""


class Store(Generic[T]):
    """Objects as they were projected. Only the informer that owns it calls put and remove."""

    def __init__(self, indexes: Mapping[str, Indexer[T]] | None = None) -> None:
        self._indexers = dict(indexes or {})
        self._objects: dict[Key, T] = {}
        self._found: dict[str, dict[Hashable, dict[Key, None]]] = {name: {} for name in self._indexers}
        self._values: dict[Key, dict[str, tuple[Hashable, ...]]] = {}

    def get(self, key: Key) -> T | None:
        return self._objects.get(key)

    def keys(self) -> list[Key]:
        """A copy: the store may change while the caller goes through it."""
        return list(self._objects)

    def values(self) -> list[T]:
        """A copy: the store may change while the caller goes through it."""
        return list(self._objects.values())

    def by_index(self, index: str, value: Hashable) -> list[T]:
        """Objects with that value, oldest entry first; KeyError for an index that was never declared."""
        return [self._objects[key] for key in self._found[index].get(value, ())]

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: object) -> bool:
        return key in self._objects

    def put(self, key: Key, obj: T) -> None:
        """Adds or replaces. When an indexer raises, nothing has changed."""
        values = {name: tuple(indexer(obj)) for name, indexer in self._indexers.items()}
        self._unindex(key)
        self._objects[key] = obj
        if values:
            self._index(key, values)

    def remove(self, key: Key) -> T | None:
        """The object that was there."""
        self._unindex(key)
        return self._objects.pop(key, None)

    def _index(self, key: Key, values: dict[str, tuple[Hashable, ...]]) -> None:
        self._values[key] = values
        for name, found in values.items():
            for value in found:
                self._found[name].setdefault(value, {})[key] = None

    def _unindex(self, key: Key) -> None:
        for name, values in self._values.pop(key, {}).items():
            for value in values:
                self._forget(name, value, key)

    def _forget(self, name: str, value: Hashable, key: Key) -> None:
        keys = self._found[name].get(value)
        if keys is None:
            return
        keys.pop(key, None)
        if not keys:
            del self._found[name][value]
