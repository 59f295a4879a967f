"""The status of a Knative Service, with conditions, reasons and messages of Knative Serving. Pure; called by server.

The controller reads it as resources.observed.project_service does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Object
from knative_lambda.local.conditions import FALSE, TRUE, UNKNOWN, condition, stamped, with_ready


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
    told = with_ready([_configurations(standing), _routes(standing)])
    written: Object = {
        "observedGeneration": standing.generation,
        "conditions": stamped(told, before, now),
    }
    if standing.created:
        written["latestCreatedRevisionName"] = standing.created
    if standing.ready:
        written["latestReadyRevisionName"] = standing.ready
        written["url"] = standing.url
        written["address"] = {"url": standing.url}
        written["traffic"] = [{"latestRevision": True, "percent": 100, "revisionName": standing.ready}]
    return written


def _configurations(standing: Standing) -> Object:
    if standing.failure:
        message = f'Revision "{standing.created}" failed with message: {standing.failure}.'
        return condition("ConfigurationsReady", FALSE, "RevisionFailed", message)
    return condition("ConfigurationsReady", TRUE if _is_current(standing) else UNKNOWN)


def _routes(standing: Standing) -> Object:
    if standing.answers:
        return condition("RoutesReady", TRUE)
    name = standing.key.name
    if standing.failure:
        message = f'Configuration "{name}" does not have any ready Revision.'
        return condition("RoutesReady", FALSE, "RevisionMissing", message)
    message = f'Configuration "{name}" is waiting for a Revision to become ready.'
    return condition("RoutesReady", UNKNOWN, "RevisionMissing", message)


def _is_current(standing: Standing) -> bool:
    return bool(standing.created) and standing.created == standing.ready
