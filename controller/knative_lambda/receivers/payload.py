"""Reads JSON whose shape nobody promises: a value of another type than expected counts as absent. Used by forges."""

from __future__ import annotations

from typing import Any

from knative_lambda.receivers.base import Payload


def at(payload: Any, *path: str) -> Any:
    """The value below those keys, or None."""
    for key in path:
        if not isinstance(payload, dict):
            return None
        payload = payload.get(key)
    return payload


def text(payload: Any, *path: str) -> str:
    """The string below those keys, or an empty one."""
    found = at(payload, *path)
    return found if isinstance(found, str) else ""


def rows(payload: Any, *path: str) -> list[Payload]:
    """The objects in the list below those keys."""
    found = at(payload, *path)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def is_nothing(commit: str) -> bool:
    """Whether a commit id is the all-zeros one, by which forges say that a ref was not there."""
    return bool(commit) and not commit.strip("0")
