"""The status of a Knative Service, with conditions, reasons and messages of Knative Serving. Pure; called by server.

The controller reads it as resources.observed.project_service does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from knative_lambda.api.meta import Key, timestamp
from knative_lambda.cluster.base import Object

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a Service stands."""

    key: Key
    generation: int
    url: str
    created: str
    """The newest revision; empty when none could be made."""
    ready: str
    """The newest revision that became ready; empty when none did."""
    answers: bool
    """Whether requests are routed to `ready`."""
    failure: str
    """Why the newest revision is not ready; empty while it starts, and when it is."""


def status(standing: Standing, before: Mapping[str, Any], *, now: datetime) -> Object:
    """The whole status, for a merge patch; times of conditions that did not change are those of `before`."""
    told = _with_ready([_configurations(standing), _routes(standing)])
    written: Object = {
        "observedGeneration": standing.generation,
        "conditions": _stamped(told, before.get("conditions") or [], timestamp(now)),
    }
    if standing.created:
        written["latestCreatedRevisionName"] = standing.created
    if standing.ready:
        written["latestReadyRevisionName"] = standing.ready
        written["url"] = standing.url
        written["address"] = {"url": standing.url}
        written["traffic"] = [{"latestRevision": True, "percent": 100, "revisionName": standing.ready}]
    return written


def differs(written: Object, before: Mapping[str, Any]) -> bool:
    """Whether there is something to write."""
    return any(before.get(name) != value for name, value in written.items())


def _configurations(standing: Standing) -> Object:
    if standing.failure:
        message = f'Revision "{standing.created}" failed with message: {standing.failure}.'
        return _condition("ConfigurationsReady", FALSE, "RevisionFailed", message)
    return _condition("ConfigurationsReady", TRUE if _is_current(standing) else UNKNOWN)


def _routes(standing: Standing) -> Object:
    if standing.answers:
        return _condition("RoutesReady", TRUE)
    name = standing.key.name
    if standing.failure:
        message = f'Configuration "{name}" does not have any ready Revision.'
        return _condition("RoutesReady", FALSE, "RevisionMissing", message)
    message = f'Configuration "{name}" is waiting for a Revision to become ready.'
    return _condition("RoutesReady", UNKNOWN, "RevisionMissing", message)


def _is_current(standing: Standing) -> bool:
    return bool(standing.created) and standing.created == standing.ready


def _with_ready(conditions: Sequence[Object]) -> list[Object]:
    """With the Ready that follows from them: the first False decides, then the first Unknown."""
    ready = _condition("Ready", TRUE)
    for wanted in (FALSE, UNKNOWN):
        blocking = [one for one in conditions if one["status"] == wanted]
        if blocking:
            ready = {**blocking[0], "type": "Ready"}
            break
    return sorted([*conditions, ready], key=lambda one: str(one["type"]))


def _condition(kind: str, value: str, reason: str = "", message: str = "") -> Object:
    told = {"type": kind, "status": value, "reason": reason, "message": message}
    return {name: text for name, text in told.items() if text}


def _stamped(conditions: Iterable[Object], before: Iterable[Object], now: str) -> list[Object]:
    known = {(one.get("type"), one.get("status")): one.get("lastTransitionTime") for one in before}
    return [{**one, "lastTransitionTime": known.get((one["type"], one["status"])) or now} for one in conditions]
