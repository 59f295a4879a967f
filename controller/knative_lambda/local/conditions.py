"""Status conditions as Knative's controllers write them. Pure; called by whoever plays one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from knative_lambda.api import meta
from knative_lambda.cluster.base import Object

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


def condition(kind: str, value: str, reason: str = "", message: str = "") -> Object:
    """One condition without its transition time, which `stamped` adds."""
    told = {"type": kind, "status": value, "reason": reason, "message": message}
    return {name: text for name, text in told.items() if text}


def with_ready(conditions: Sequence[Object]) -> list[Object]:
    """With the Ready that follows from them: the first False decides, then the first Unknown."""
    blocking = [one for value in (FALSE, UNKNOWN) for one in conditions if one["status"] == value]
    ready = {**blocking[0], "type": "Ready"} if blocking else condition("Ready", TRUE)
    return sorted([*conditions, ready], key=lambda one: str(one["type"]))


def stamped(conditions: Sequence[Object], before: Mapping[str, Any], now: datetime) -> list[Object]:
    """With transition times, those of the status `before` where nothing changed."""
    known = {(one.get("type"), one.get("status")): one.get("lastTransitionTime") for one in _listed(before)}
    written = meta.timestamp(now)
    return [{**one, "lastTransitionTime": known.get((one["type"], one["status"])) or written} for one in conditions]


def differs(written: Object, before: Mapping[str, Any]) -> bool:
    """Whether there is something to write."""
    return any(before.get(name) != value for name, value in written.items())


def _listed(status: Mapping[str, Any]) -> list[Object]:
    return status.get("conditions") or []
