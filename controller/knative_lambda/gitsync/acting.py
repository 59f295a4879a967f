"""Writes the changes: applies first, for somebody waits for them, then deletions. Failures become values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from knative_lambda.api import kinds
from knative_lambda.api.meta import GIT_FIELD_MANAGER, Key
from knative_lambda.cluster.base import (
    CircuitOpen,
    ClusterError,
    Conflict,
    Invalid,
    KindNotInstalled,
    NotFound,
    WriteFenced,
)
from knative_lambda.gitsync.diff import Changes, Removal, Write, Written
from knative_lambda.gitsync.world import Known, Refusal, SyncWorld

T = TypeVar("T")
REFUSAL_SECONDS = 600.0
"""How long a manifest that the API server called invalid is not sent again unchanged."""


@dataclass(slots=True)
class Outcome:
    """What became of each change."""

    written: dict[Key, Written] = field(default_factory=dict)
    deleted: set[Key] = field(default_factory=set)
    refused: dict[Key, str] = field(default_factory=dict)
    """The API server's words about a manifest that it will never take."""
    failed: dict[Key, ClusterError] = field(default_factory=dict)
    """What time may heal."""
    stopped: bool = False
    """Something newer came up, or time was up; the rest is left to the next sync."""

    @property
    def retry_after(self) -> float:
        """Seconds that the server asked for."""
        return max((error.retry_after or 0.0 for error in self.failed.values()), default=0.0)


async def act(key: Key, changes: Changes, world: SyncWorld) -> Outcome:
    """Applies and deletes, many at a time. Raises WriteFenced only: who does not lead, says nothing."""
    outcome, known = Outcome(), world.known[key]
    until = world.clock.monotonic() + world.settings.write_seconds

    def is_over() -> bool:
        """A newer request, a deadline, or a server that is not asked any more: what is begun is finished."""
        hopeless = any(isinstance(error, CircuitOpen | WriteFenced) for error in outcome.failed.values())
        enough = len(outcome.written) + len(outcome.deleted) >= world.settings.concurrency
        superseded = enough and world.requests.is_marked(key)
        outcome.stopped = outcome.stopped or superseded or world.clock.monotonic() >= until
        return hopeless or outcome.stopped

    await _each(changes.apply, lambda write: _apply(write, outcome, known, world), world.settings.concurrency, is_over)
    await _each(changes.delete, lambda one: _delete(one, outcome, world), world.settings.concurrency, is_over)
    if fenced := next((error for error in outcome.failed.values() if isinstance(error, WriteFenced)), None):
        raise fenced
    return outcome


async def _each(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], width: int, is_over: Callable[[], bool]
) -> None:
    """Runs `work` for all items, `width` at a time, until it is over."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            if is_over():
                return
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(worker())


async def _apply(write: Write, outcome: Outcome, known: Known, world: SyncWorld) -> None:
    """Forced on our own object, where a hand edit is set back; never on one that may be somebody else's."""
    wanted = write.desired
    refusal = known.refused.get(wanted.key)
    if refusal and refusal.digest == wanted.digest and world.clock.monotonic() - refusal.at < REFUSAL_SECONDS:
        outcome.refused[wanted.key] = refusal.message
        return
    try:
        made = await world.cluster.apply(
            kinds.LAMBDA_FUNCTION, wanted.manifest, manager=GIT_FIELD_MANAGER, force=not write.first
        )
    except Invalid as error:
        outcome.refused[wanted.key] = error.message
        known.refused[wanted.key] = Refusal(wanted.digest, error.message, at=world.clock.monotonic())
    except ClusterError as error:
        outcome.failed[wanted.key] = error
    else:
        known.refused.pop(wanted.key, None)
        metadata = made["metadata"]
        outcome.written[wanted.key] = Written(
            metadata["uid"], metadata["resourceVersion"], wanted.digest, at=world.clock.monotonic()
        )


async def _delete(removal: Removal, outcome: Outcome, world: SyncWorld) -> None:
    key = removal.item.key
    try:
        await world.cluster.delete(kinds.LAMBDA_FUNCTION, key, uid=removal.uid)
    except KindNotInstalled as error:
        outcome.failed[key] = error
    except (NotFound, Conflict):  # gone, or another object has the name now, which is not ours
        outcome.deleted.add(key)
    except ClusterError as error:
        outcome.failed[key] = error
    else:
        outcome.deleted.add(key)
