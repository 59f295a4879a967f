"""How many requests went out, by verb and kind: what benchmarks and tests hold against their budgets."""

from __future__ import annotations

from collections import Counter

from knative_lambda.api.meta import Kind

WRITES = frozenset({"create", "apply", "patch", "patch_status", "replace", "delete"})


class RequestCounts:
    """Counters of one Cluster. Verbs: get, list, watch, discover and those in WRITES; repetitions count again."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Kind]] = Counter()

    def add(self, verb: str, kind: Kind) -> None:
        self._counts[verb, kind] += 1

    def of(self, verb: str | None = None, kind: Kind | None = None) -> int:
        """Requests of that verb and that kind; None stands for any."""
        return sum(count for (v, k), count in self._counts.items() if verb in (None, v) and (kind is None or kind == k))

    @property
    def total(self) -> int:
        return self._counts.total()

    @property
    def writes(self) -> int:
        return sum(count for (verb, _), count in self._counts.items() if verb in WRITES)

    def table(self) -> dict[tuple[str, Kind], int]:
        """A copy, by (verb, kind)."""
        return dict(self._counts)

    def reset(self) -> None:
        self._counts.clear()
