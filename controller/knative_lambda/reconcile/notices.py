"""The Kubernetes Events that a status change is worth, so that `kubectl describe lfn` tells the story. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from knative_lambda.api.conditions import Condition, ConditionType, Status, find
from knative_lambda.api.events import Event
from knative_lambda.api.function import FunctionStatus
from knative_lambda.api.phases import Phase

ACTION = "Reconcile"
EVENTS_DROPPED = "EventsDropped"
_COMPANIONS = frozenset({ConditionType.READY.value, ConditionType.STALLED.value, ConditionType.RECONCILING.value})


@dataclass(frozen=True, slots=True)
class Notice:
    """One Kubernetes Event, as the recorder takes it."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


def notices(old: FunctionStatus, new: FunctionStatus) -> list[Notice]:
    """One for where the function stands now, if that changed; one for each other condition that turned bad."""
    ready = find(new.conditions, ConditionType.READY)
    said = ready.reason if ready else ""
    return [*_story(old, new, ready), *_troubles(old, new, said=said)]


def dropped(events: Sequence[Event]) -> Notice:
    """Says which events were lost for good, and why."""
    names = ", ".join(sorted({event.type for event in events}))
    return Notice(
        "Warning", EVENTS_DROPPED, f"{len(events)} CloudEvents were not confirmed in time and given up: {names}"
    )


def _story(old: FunctionStatus, new: FunctionStatus, ready: Condition | None) -> Iterator[Notice]:
    before = find(old.conditions, ConditionType.READY)
    if ready is None or (before is not None and (before.status, before.reason) == (ready.status, ready.reason)):
        return
    built = new.phase is Phase.DEPLOYING and new.image and new.image != old.image
    note = f"{ready.message}; Service written" if built else ready.message
    yield Notice("Warning" if ready.status is Status.FALSE else "Normal", ready.reason, note)


def _troubles(old: FunctionStatus, new: FunctionStatus, *, said: str) -> Iterator[Notice]:
    for condition in new.conditions:
        if condition.type in _COMPANIONS or condition.status is not Status.FALSE or condition.reason == said:
            continue
        before = next((one for one in old.conditions if one.type == condition.type), None)
        if before is None or (before.status, before.reason) != (condition.status, condition.reason):
            yield Notice("Warning", condition.reason, condition.message)
