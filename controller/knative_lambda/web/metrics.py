"""The design document's operator metrics: their names, labels and buckets, and one method per thing that happens.

What each one means here:

* reconcile: one run of the loop for one function. `phase` is the function's phase when it ran, `result` is success also
  when the loop asks to look again. Runs that the end of the process cut off are not counted.
* crd_operation: what people and git do to LambdaFunctions. Counted when it is seen; its duration ends when the status
  speaks of it, or when the deleted object is gone.
* event_processing: CloudEvents on their way out, each attempt; success is a confirm of RabbitMQ.
* event_queue_depth: events that RabbitMQ has not confirmed.
* build_jobs_total: builds that ended; build_duration: from the Job's creation to its end, by the API server's clock.
* service_creation_duration: from the first sight of a Knative Service to its first Ready.
* dlq_depth: letters that wait, as RabbitMQ said last, of functions with series of their own; gone while it is away. The
  catch-all queue is the function `catch-all` of no namespace.
* goroutines: asyncio tasks, which are what goroutines are in this process.

Whatever describes the cluster and not the process is told by the leader alone, so that a sum over replicas is right.
Wiring makes one Metrics per process.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from knative_lambda.api.events import SOURCE, EventType
from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.runner import Result
from knative_lambda.web.labels import OTHER, Words
from knative_lambda.web.series import Family, FunctionSeries

RECONCILE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60)
"""The design document's; the others are ours, for it names none."""
EVENT_BUCKETS = (0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
BUILD_BUCKETS = (5, 10, 20, 30, 60, 120, 300, 600, 1800)
SERVICE_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300)
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZE_BUCKETS = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)

CATCH_ALL = Key("", "catch-all")
"""Stands among functions for the queue of letters that belong to none."""
FUNCTIONS = 1000
"""Functions with series of their own, unless settings say otherwise."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SUCCESS = (Result.SUCCESS, Result.REQUEUE)


class Metrics:
    """Every counter and histogram of one process. Methods belong to the loop's thread; scrapes read from another."""

    def __init__(self, *, clock: Clock, functions: int = FUNCTIONS) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a third more series that nobody asks for
        self.registry = CollectorRegistry()
        """What is not about one function."""
        self.series = FunctionSeries(limit=functions, clock=clock)
        self.dead_letters: dict[Key, int] = {}
        """Messages in the dead-letter queue of each function, and of CATCH_ALL, as last asked."""
        self._types = Words(kind.value for kind in EventType)
        self._sources = Words((SOURCE,), more=20)
        self._methods = Words(METHODS)
        self._endpoints = Words(more=100)
        self._reasons = Words(more=20)
        self._define()

    def _define(self) -> None:
        function = ("function_name", "namespace")
        per_function, histogram = self._per_function, self._function_histogram
        self._reconciles = per_function("reconcile_total", "Reconciliation attempts", *function, "phase", "result")
        self._reconcile_seconds = histogram(
            "reconcile_duration_seconds", "Reconciliation latency", *function, "phase", buckets=RECONCILE_BUCKETS
        )
        self._operations = per_function("crd_operations_total", "Functions made, changed, gone", "operation", *function)
        self._operation_seconds = histogram(
            "crd_operation_duration_seconds",
            "From an operation to the status that speaks of it",
            *("operation", "function_name"),
            buckets=RECONCILE_BUCKETS,
        )
        self._builds = per_function("build_jobs_total", "Build Jobs that ended", *function, "result")
        self._build_seconds = histogram(
            "build_duration_seconds", "From a build Job's creation to its end", *function, buckets=BUILD_BUCKETS
        )
        self._service_seconds = histogram(
            "service_creation_duration_seconds", "From a Service to its Ready", *function, buckets=SERVICE_BUCKETS
        )
        self._dead = per_function("dlq_messages_total", "Messages sent to dead-letter queues", *function, "reason")
        self._define_shared()

    def _define_shared(self) -> None:
        """Those that are not about one function."""
        counter, histogram = self._counter, self._histogram
        event = ("event_type", "source")
        self._events = counter("event_processing_total", "CloudEvents sent, each attempt", *event, "result")
        self._event_seconds = histogram(
            "event_processing_duration_seconds", "From sending to the confirm", *event, buckets=EVENT_BUCKETS
        )
        request = ("method", "endpoint")
        self._requests = counter("api_requests_total", "HTTP requests", *request, "status_code")
        self._request_seconds = histogram(
            "api_request_duration_seconds", "HTTP latency", *request, buckets=REQUEST_BUCKETS
        )
        self._request_bytes = histogram(
            "api_request_size_bytes", "Bytes of request bodies", *request, buckets=SIZE_BUCKETS
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"operator_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"operator_{name}", about, labels, buckets=buckets, registry=self.registry)

    def _per_function(self, name: str, about: str, *labels: str) -> Family[Counter]:
        return self.series.family(Counter(f"operator_{name}", about, labels, registry=None), labels)

    def _function_histogram(self, name: str, about: str, *labels: str, buckets: tuple[float, ...]) -> Family[Histogram]:
        metric = Histogram(f"operator_{name}", about, labels, buckets=buckets, registry=None)
        return self.series.family(metric, labels)

    def reconciled(self, key: Key, phase: str, *, result: str, seconds: float) -> None:
        """`result` is a Result of machinery.runner."""
        if result == Result.CANCELLED:
            return
        name, namespace = self._named(key)
        word = _word(result in _SUCCESS)
        self.series.child(self._reconciles, key, name, namespace, phase, word).inc()
        self.series.child(self._reconcile_seconds, key, name, namespace, phase).observe(seconds)

    def operated(self, key: Key, operation: str) -> None:
        """`operation`: create, update or delete."""
        self.series.child(self._operations, key, operation, *self._named(key)).inc()

    def operation_took(self, key: Key, operation: str, *, seconds: float) -> None:
        """The status speaks of the operation now."""
        self.series.child(self._operation_seconds, key, operation, self._named(key)[0]).observe(seconds)

    def event_processed(self, event_type: str, source: str, *, is_ok: bool, seconds: float) -> None:
        """One event, sent or received."""
        known = (self._types.bounded(event_type), self._sources.bounded(source))
        self._events.labels(*known, _word(is_ok)).inc()
        self._event_seconds.labels(*known).observe(seconds)

    def built(self, key: Key, *, is_ok: bool, seconds: float | None) -> None:
        """A build Job ended; `seconds` is None when the Job does not say when."""
        self.series.child(self._builds, key, *self._named(key), _word(is_ok)).inc()
        if seconds is not None:
            self.series.child(self._build_seconds, key, *self._named(key)).observe(seconds)

    def service_created(self, key: Key, *, seconds: float) -> None:
        """A Knative Service became Ready for the first time."""
        self.series.child(self._service_seconds, key, *self._named(key)).observe(seconds)

    def dead_letter(self, key: Key, reason: str) -> None:
        """A message went to the function's dead-letter queue. `reason`: few fixed words, of which 20 are kept."""
        self.series.child(self._dead, key, *self._named(key), self._reasons.bounded(reason)).inc()

    def requested(self, method: str, endpoint: str, *, status: int, seconds: float, size: int) -> None:
        """An HTTP request was answered. `endpoint` is its route's template; empty where no route matched."""
        known = (self._methods.bounded(method), self._endpoints.bounded(endpoint or OTHER))
        self._requests.labels(*known, str(status)).inc()
        self._request_seconds.labels(*known).observe(seconds)
        self._request_bytes.labels(*known).observe(size)

    def event_type(self, value: str) -> str:
        """The type as its label says it."""
        return self._types.bounded(value)

    def _named(self, key: Key) -> tuple[str, str]:
        """(function_name, namespace)"""
        named = self.series.name(key)
        return named.name, named.namespace


def _word(is_ok: bool) -> str:
    return "success" if is_ok else "failure"
