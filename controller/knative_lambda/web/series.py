"""The metrics that every function has for itself: at most so many functions, and only while they exist.

A thousand functions have a hundred thousand lines on the page, of which few change between two scrapes. So each series
keeps its text, and only those that were touched are written anew. Made by `metrics`, shown by `page`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import Counter, Histogram
from prometheus_client.utils import floatToGoString

from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import Clock
from knative_lambda.web.labels import OTHER

REST = Key(OTHER, OTHER)
"""Stands for every function beyond the limit."""
KEPT = 600.0
"""Seconds that the series of a deleted function stay, so that a scrape still sees its end."""

M = TypeVar("M", Counter, Histogram)


@dataclass(frozen=True, slots=True, eq=False)
class Family(Generic[M]):
    """A metric, which no registry knows, and the names of its labels."""

    metric: M
    labels: tuple[str, ...]


Series = tuple[Family[Any], tuple[str, ...]]
Touched = Sequence[tuple[Series, Counter | Histogram]]


class FunctionSeries:
    """Which functions have series of their own, and which. Belongs to the loop's thread.

    Two functions of one name in two namespaces share series without a namespace label; these go with the last of them.
    """

    def __init__(self, *, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._of: dict[Key, set[Series]] = {}
        self._holders: dict[Series, set[Key]] = {}
        self._leaving: dict[Key, float] = {}
        self._texts: dict[Family[Any], dict[tuple[str, ...], str]] = {}
        self._touched: dict[Series, Counter | Histogram] = {}

    def __len__(self) -> int:
        """Functions with series of their own."""
        return len(self._of)

    def family(self, metric: M, labels: tuple[str, ...]) -> Family[M]:
        """Before its first child; families stand on the page in the order in which they came."""
        family = Family(metric, labels)
        self._texts[family] = {}
        return family

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

    def child(self, family: Family[M], key: Key, *values: str) -> M:
        """The family's child with these label values, which goes when the function goes."""
        series = (family, values)
        child = family.metric.labels(*values)
        self._touched[series] = child
        own = self._of.get(key)
        if own is not None:
            own.add(series)
        self._holders.setdefault(series, set()).add(REST if own is None else key)
        return child

    # Text.

    def touched(self) -> Touched:
        """What has to be written anew; it counts as written from now on."""
        touched, self._touched = list(self._touched.items()), {}
        return touched

    def keep(self, texts: Mapping[Series, str]) -> None:
        """Texts that `write` made; those of functions that are gone meanwhile are dropped."""
        for series, text in texts.items():
            if series in self._holders:
                family, values = series
                self._texts[family][values] = text

    def blocks(self) -> list[tuple[Family[Any], Sequence[str]]]:
        """The texts of each family, as they are now."""
        return [(family, list(texts.values())) for family, texts in self._texts.items()]

    def _drop(self, key: Key) -> None:
        self._leaving.pop(key, None)
        for series in self._of.pop(key, ()):
            holders = self._holders[series]
            holders.discard(key)
            if not holders:
                del self._holders[series]
                self._touched.pop(series, None)
                family, values = series
                self._texts[family].pop(values, None)
                family.metric.remove(*values)


def write(touched: Touched) -> dict[Series, str]:
    """The lines of each series; they are the same in the plain format and in OpenMetrics. In any thread."""
    return {series: _lines(series, child) for series, child in touched}


def heading(family: Family[Any], *, openmetrics: bool) -> str:
    """HELP and TYPE; OpenMetrics names a counter without the _total of its samples."""
    described = next(iter(family.metric.describe()))
    name = f"{described.name}_total" if described.type == "counter" and not openmetrics else described.name
    return f"# HELP {name} {described.documentation}\n# TYPE {name} {described.type}\n"


def _lines(series: Series, child: Counter | Histogram) -> str:
    family, values = series
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(family.labels, values, strict=True))
    lines = []
    for metric in child.collect():
        for sample in metric.samples:
            bucket = f',le="{sample.labels["le"]}"' if "le" in sample.labels else ""
            lines.append(f"{sample.name}{{{labels}{bucket}}} {_number(sample.value)}\n")
    return "".join(lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text
