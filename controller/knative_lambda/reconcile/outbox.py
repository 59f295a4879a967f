"""Events that nobody confirmed yet, as they are kept in the status. Pure; called by `report`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from knative_lambda.api.events import SOURCE, Event, EventType
from knative_lambda.api.function import OUTBOX_LIMIT, PendingEvent
from knative_lambda.kit import digest

BYTES_LIMIT = 262_144
"""Of all data together: an object in etcd holds 1.5 MiB, and a function with 10 events waiting is still readable."""


def revive(pending: Iterable[PendingEvent]) -> list[Event]:
    """The events as they were, under their old ids."""
    return [
        Event(
            id=one.id,
            type=one.type,
            source=SOURCE,
            time=one.time,
            data=orjson.loads(one.data),
            subject=one.subject,
            extensions=dict(one.extensions),
        )
        for one in pending
    ]


def keep(unconfirmed: Sequence[Event]) -> tuple[tuple[PendingEvent, ...], tuple[Event, ...]]:
    """(what the status keeps, what does not fit). The oldest lambda.status.updated go first: newer ones say more."""
    kept = [(event, _pending(event)) for event in unconfirmed]
    dropped: list[Event] = []
    while len(kept) > OUTBOX_LIMIT or sum(len(one.data) for _, one in kept) > BYTES_LIMIT:
        place = next((n for n, (event, _) in enumerate(kept) if event.type == EventType.STATUS_UPDATED.value), 0)
        dropped.append(kept.pop(place)[0])
    return tuple(one for _, one in kept), tuple(dropped)


def _pending(event: Event) -> PendingEvent:
    return PendingEvent(
        id=event.id,
        type=event.type,
        time=event.time,
        data=digest.canonical(event.data).decode(),
        subject=event.subject,
        extensions=event.extensions,
    )
