"""Kubernetes Events in their older form (v1), in which kubectl reads them; stored are those of events.k8s.io.

A real API server serves one and the same Event under both names, too. Called by kubecatalog.
"""

from __future__ import annotations

from typing import Any

from knative_lambda.api.meta import Kind
from knative_lambda.cluster.base import Object

CORE_EVENT = Kind("", "v1", "events", "Event")
SELECTABLE = frozenset(
    ("metadata.name", "metadata.namespace", "reason", "type", "reportingComponent", "source")
) | frozenset(
    f"involvedObject.{name}"
    for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
)
_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedCount": "count",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
}


def core_event(event: Object) -> Object:
    """The same Event with the names of v1."""
    found: Object = {_RENAMED.get(name, name): value for name, value in event.items()}
    found["apiVersion"] = CORE_EVENT.api_version
    if "kind" in event:
        _complete(found)
    return found


def _complete(event: dict[str, Any]) -> None:
    """Fills in what kubectl prints and a newer Event says elsewhere. A watch's bookmark is not completed."""
    if set(event) <= {"apiVersion", "kind", "metadata"}:
        return
    given = event.get("series")
    series = given if isinstance(given, dict) else {}
    first = event.get("firstTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    event.setdefault("involvedObject", {})
    event["firstTimestamp"] = _seconds(first)
    event["lastTimestamp"] = _seconds(event.get("lastTimestamp") or series.get("lastObservedTime") or first)
    event["count"] = event.get("count") or series.get("count") or 1
    event["source"] = event.get("source") or {"component": event.get("reportingComponent", "")}


def _seconds(moment: Any) -> str | None:
    """metav1.Time has no fractions, which eventTime has."""
    return f"{moment.partition('.')[0].rstrip('Z')}Z" if moment and isinstance(moment, str) else None
