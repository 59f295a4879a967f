"""Bounds what labels can hold: a metric whose labels grow without end costs more than it tells."""

from __future__ import annotations

from collections.abc import Iterable

OTHER = "other"
"""Value of a label whose own value would be one too many."""


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
