"""`helm template` of the default values, by the Helm engine in this process."""

from __future__ import annotations

import statistics
import time

import helm_python

from tests.benchmarks.table import Figure
from tests.chart.engine import RELEASE
from tests.chart.readme import CHART
from tests.chart.test_render import EVERYTHING


def run(count: int) -> list[Figure]:
    """Loads and renders the chart `count` times, each time anew from its files."""
    plain = [_seconds({}) for _ in range(count)]
    full = [_seconds(EVERYTHING) for _ in range(count)]
    slowest = max(plain)
    return [
        Figure("default values, first render, ms", f"{plain[0] * 1000:.0f}", "< 1000", plain[0] < 1),
        Figure("default values, median, ms", f"{statistics.median(plain) * 1000:.0f}"),
        Figure("default values, slowest, ms", f"{slowest * 1000:.0f}", "< 1000", slowest < 1),
        Figure("every value set, median, ms", f"{statistics.median(full) * 1000:.0f}"),
    ]


def _seconds(values: dict[str, object]) -> float:
    began = time.perf_counter()
    with helm_python.Chart.load(CHART) as chart:
        chart.render(values, name=RELEASE, namespace="platform")
    return time.perf_counter() - began
