"""The store and its indexes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.machinery.store import Store

A, B = Key("ns", "a"), Key("ns", "b")


def _letters(text: str) -> Iterable[str]:
    return set(text)


def _store() -> Store[str]:
    return Store({"letter": _letters})


def test_objects_are_found_by_key_and_by_every_value_of_an_index() -> None:
    store = _store()
    store.put(A, "xy")
    store.put(B, "y")
    assert store.get(A) == "xy"
    assert (len(store), A in store, Key("ns", "c") in store) == (2, True, False)
    assert (store.by_index("letter", "x"), store.by_index("letter", "y")) == (["xy"], ["xy", "y"])
    assert store.by_index("letter", "q") == []


def test_a_changed_object_leaves_its_old_places_in_the_index() -> None:
    store = _store()
    store.put(A, "x")
    store.put(A, "y")
    assert (store.by_index("letter", "x"), store.by_index("letter", "y")) == ([], ["y"])


def test_a_removed_object_is_nowhere() -> None:
    store = _store()
    store.put(A, "x")
    assert store.remove(A) == "x"
    assert store.remove(A) is None
    assert (store.get(A), store.values(), store.by_index("letter", "x")) == (None, [], [])


def test_an_indexer_that_raises_leaves_everything_as_it_was() -> None:
    def picky(text: str) -> Iterable[str]:
        if text == "bad":
            raise ValueError(text)
        return [text]

    store = Store({"letter": _letters, "picky": picky})
    store.put(A, "x")
    with pytest.raises(ValueError, match="bad"):
        store.put(A, "bad")
    assert (store.get(A), store.by_index("letter", "x"), store.by_index("letter", "b")) == ("x", ["x"], [])


def test_an_index_that_was_never_declared_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        _store().by_index("colour", "red")
