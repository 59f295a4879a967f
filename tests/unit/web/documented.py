"""The operator metrics as the design document lists them, and those that we show beside them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Documented:
    """One row."""

    name: str
    type: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] | None = None
    """Where the document names them."""


FUNCTION = ("function_name", "namespace")

DOCUMENTED = (
    Documented("operator_reconcile_total", "counter", (*FUNCTION, "phase", "result")),
    Documented(
        "operator_reconcile_duration_seconds", "histogram", (*FUNCTION, "phase"), (0.1, 0.5, 1, 2, 5, 10, 30, 60)
    ),
    Documented("operator_crd_operations_total", "counter", ("operation", *FUNCTION)),
    Documented("operator_crd_operation_duration_seconds", "histogram", ("operation", "function_name")),
    Documented("operator_event_processing_total", "counter", ("event_type", "source", "result")),
    Documented("operator_event_processing_duration_seconds", "histogram", ("event_type", "source")),
    Documented("operator_event_queue_depth", "gauge", ("event_type",)),
    Documented("operator_build_jobs_active", "gauge", FUNCTION),
    Documented("operator_build_jobs_total", "counter", (*FUNCTION, "result")),
    Documented("operator_build_duration_seconds", "histogram", FUNCTION),
    Documented("operator_knative_services_managed", "gauge", ("namespace", "status")),
    Documented("operator_service_creation_duration_seconds", "histogram", FUNCTION),
    Documented("operator_dlq_depth", "gauge", FUNCTION),
    Documented("operator_dlq_messages_total", "counter", (*FUNCTION, "reason")),
    Documented("operator_api_requests_total", "counter", ("method", "endpoint", "status_code")),
    Documented("operator_api_request_duration_seconds", "histogram", ("method", "endpoint")),
    Documented("operator_api_request_size_bytes", "histogram", ("method", "endpoint")),
    Documented("operator_goroutines", "gauge"),
    Documented("operator_memory_usage_bytes", "gauge"),
    Documented("operator_cpu_usage_seconds", "counter"),
)

OURS = (Documented("operator_webhook_deliveries_total", "counter", ("forge", "outcome")),)
