"""Bounds what labels can hold: a metric whose labels grow without end costs more than it tells. Used by `metrics`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from prometheus_client import Counter, Histogram

from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import Clock

OTHER = "other"
"""Value of a label whose own value would be one too many."""
REST = Key(OTHER, OTHER)
"""Stands for every function beyond the limit."""
KEPT = 600.0
"""Seconds that the series of a deleted function stay, so that a scrape still sees its end."""

M = TypeVar("M", Counter, Histogram)
Series = tuple[Counter | Histogram, tuple[str, ...]]


class Words:
    """Values of one label: those that are known, and at most `more` others, first come first served."""

    def __init__(self, known: Iterable[str] = (), *, more: int = 0) -> None:
        self._known = set(known)
        self._limit = len(self._known) + more

    def bounded(self, value: str) -> str:
        """The value, or `other`."""
        if value in self._known:
            return value
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value


class FunctionSeries:
    """The functions that have series of their own, at most `limit`, and the series that each of them has.

    Belongs to the loop's thread. Two functions of one name in two namespaces share series without a namespace label;
    these go with the last of them.
    """

    def __init__(self, *, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._of: dict[Key, set[Series]] = {}
        self._holders: dict[Series, set[Key]] = {}
        self._leaving: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._of)

    def enter(self, key: Key) -> None:
        """The function exists; one that finds no place is counted among the rest until there is one."""
        if key in self._of:
            self._leaving.pop(key, None)
            return
        if len(self._of) >= self._limit and self._leaving:
            self._drop(next(iter(self._leaving)))
        if len(self._of) < self._limit:
            self._of[key] = set()

    def leave(self, key: Key) -> None:
        """The function is gone."""
        if key in self._of:
            self._leaving[key] = self._clock.monotonic() + KEPT

    def sweep(self) -> None:
        """Drops the series of functions that are gone long enough; called before each scrape."""
        now = self._clock.monotonic()
        for key, due in list(self._leaving.items()):  # in order of their time
            if due > now:
                return
            self._drop(key)

    def name(self, key: Key) -> Key:
        """The function as its labels name it."""
        return key if key in self._of else REST

    def child(self, metric: M, key: Key, *values: str) -> M:
        """The metric's child with these label values, which goes when the function goes."""
        own = self._of.get(key)
        series = (metric, values)
        if own is not None and series not in own:
            own.add(series)
            self._holders.setdefault(series, set()).add(key)
        return metric.labels(*values)

    def _drop(self, key: Key) -> None:
        self._leaving.pop(key, None)
        for series in self._of.pop(key, ()):
            holders = self._holders[series]
            holders.discard(key)
            if not holders:
                del self._holders[series]
                metric, values = series
                metric.remove(*values)
