"""Gauges that are counted when somebody asks, from the caches and the process itself. Registered by `page`."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from knative_lambda.api.conditions import Status
from knative_lambda.api.events import EventType
from knative_lambda.api.meta import Key
from knative_lambda.machinery.store import Store
from knative_lambda.resources.observed import JobSeen, JobState, ServiceSeen
from knative_lambda.web.labels import Words
from knative_lambda.web.metrics import CATCH_ALL, Metrics
from knative_lambda.web.watcher import is_managed

NAMESPACES = 1000
"""Namespaces with figures of their own; further ones are summed up as `other`."""
CPU_SECONDS = "operator_cpu_usage_seconds"
_STATM = Path("/proc/self/statm")
_WORDS = {Status.TRUE: "ready", Status.UNKNOWN: "pending", Status.FALSE: "failed"}


@dataclass(frozen=True, slots=True)
class View:
    """What the gauges are counted from."""

    services: Store[ServiceSeen]
    jobs: Store[JobSeen]
    waiting_events: Callable[[], Mapping[str, int]]
    """Events that RabbitMQ has not confirmed, by type."""
    leads: Callable[[], bool]
    deliveries: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Webhooks received, by forge and outcome; the map grows while it is watched."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The caches at one moment, copied in the loop's thread and counted in another."""

    services: list[ServiceSeen]
    jobs: list[JobSeen]
    waiting_events: Mapping[str, int]
    """By type, every type; empty where another process tells of them."""
    dead_letters: Mapping[Key, int]
    deliveries: Mapping[tuple[str, str], int]
    tasks: int


_NOTHING = _Snapshot([], [], {}, {}, {}, 0)


class Figures(Collector):
    """A collector for prometheus_client; `look` must come before each collection."""

    def __init__(self, view: View, metrics: Metrics) -> None:
        self._view = view
        self._metrics = metrics
        self._seen = _NOTHING

    def look(self) -> None:
        """In the loop's thread: lists are copied, nothing is counted. Only a leader tells of the cluster."""
        leads = self._view.leads()
        self._seen = _Snapshot(
            services=self._view.services.values() if leads else [],
            jobs=self._view.jobs.values() if leads else [],
            waiting_events=self._queued() if leads else {},
            dead_letters=dict(self._metrics.dead_letters) if leads else {},
            deliveries=dict(self._view.deliveries),
            tasks=len(asyncio.all_tasks()),
        )

    def collect(self) -> Iterator[Metric]:
        """In any thread."""
        seen = self._seen
        yield self._per_function("build_jobs_active", "Build Jobs that run", _running(seen.jobs))
        yield self._per_function("dlq_depth", "Messages in dead-letter queues", seen.dead_letters.items())
        yield _services(seen.services)
        yield _queue(seen.waiting_events)
        yield _deliveries(seen.deliveries)
        yield GaugeMetricFamily("operator_goroutines", "asyncio tasks", seen.tasks)
        yield GaugeMetricFamily("operator_memory_usage_bytes", "Resident memory", resident_bytes())
        yield UnknownMetricFamily(CPU_SECONDS, "Processor time of this process", time.process_time())

    def _per_function(self, name: str, about: str, counts: Iterable[tuple[Key, int]]) -> Metric:
        family = GaugeMetricFamily(f"operator_{name}", about, labels=["function_name", "namespace"])
        sums: Counter[Key] = Counter()
        for key, count in counts:
            sums[key if key == CATCH_ALL else self._metrics.series.name(key)] += count
        for key, count in sums.items():
            family.add_metric([key.name, key.namespace], count)
        return family

    def _queued(self) -> Mapping[str, int]:
        sums = Counter({kind.value: 0 for kind in EventType})
        for kind, count in self._view.waiting_events().items():
            sums[self._metrics.event_type(kind)] += count
        return sums


def _queue(waiting: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(
        "operator_event_queue_depth", "Events that RabbitMQ has not confirmed", labels=["event_type"]
    )
    for kind, count in waiting.items():
        family.add_metric([kind], count)
    return family


def _deliveries(deliveries: Mapping[tuple[str, str], int]) -> Metric:
    family = CounterMetricFamily(
        "operator_webhook_deliveries", "Webhooks by what became of them", labels=["forge", "outcome"]
    )
    for labels, count in deliveries.items():
        family.add_metric(labels, count)
    return family


def _running(jobs: Iterable[JobSeen]) -> Iterator[tuple[Key, int]]:
    return ((job.function, 1) for job in jobs if job.state is JobState.RUNNING and not job.deleting)


def _services(services: Iterable[ServiceSeen]) -> Metric:
    family = GaugeMetricFamily(
        "operator_knative_services_managed", "Knative Services of functions", labels=["namespace", "status"]
    )
    namespaces = Words(more=NAMESPACES)
    sums: Counter[tuple[str, str]] = Counter()
    for seen in services:
        if is_managed(seen):
            sums[namespaces.bounded(seen.key.namespace), _WORDS[seen.readiness.status]] += 1
    for labels, count in sums.items():
        family.add_metric(labels, count)
    return family


def resident_bytes() -> int:
    """Memory of this process that is in RAM; where /proc is not to be had, the most that it ever was."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
