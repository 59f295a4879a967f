"""Tells the world what a reconcile did: CloudEvents first, then one status patch, then Kubernetes Events.

Events go first, and what is not confirmed is written into the status with the same patch: a crash in between repeats
events under their ids, and loses none. Called by `loop`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from knative_lambda.api import kinds, meta
from knative_lambda.api.events import Event
from knative_lambda.api.function import FunctionStatus
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import NotFound
from knative_lambda.machinery.queue import Priority
from knative_lambda.machinery.recorder import Regarding
from knative_lambda.machinery.runner import Requeue
from knative_lambda.reconcile import notices, outbox, transitions
from knative_lambda.reconcile.act import Outcome, patch_finalizers
from knative_lambda.reconcile.conclude import conclude, verdicts_after
from knative_lambda.reconcile.notices import Notice
from knative_lambda.reconcile.plan import Go, Plan, Verdict
from knative_lambda.reconcile.snapshot import Seen, Snapshot
from knative_lambda.reconcile.transitions import Subject
from knative_lambda.reconcile.world import World
from knative_lambda.resources.observed import project_function

OUTBOX_RETRY = 15.0
"""Seconds to the next attempt to publish what nobody confirmed."""
HELD_RETRY = 5.0
"""The same for a deleted function, whose owner waits."""


async def report(seen: Seen, plan: Plan, outcome: Outcome, world: World) -> Requeue | None:
    """Raises the ClusterError that made a write fail, after telling of it: the queue then backs off for this key."""
    if outcome.is_untold and outcome.error is not None:
        raise outcome.error
    status, lost = await _publish(seen, conclude(seen, plan, outcome), world)
    if not await _write(seen, status, world):
        return None
    _tell(seen, [*notices.notices(seen.status, status), *([notices.dropped(lost)] if lost else [])], world)
    if outcome.error is not None:
        raise outcome.error
    if plan.release:
        return await _release(seen, status, world)
    return _next_look(verdicts_after(plan, outcome), status)


async def _publish(seen: Seen, status: FunctionStatus, world: World) -> tuple[FunctionStatus, tuple[Event, ...]]:
    """The status with what was not confirmed, and what did not even fit there."""
    waiting = outbox.revive(seen.status.outbox)
    happened = [*waiting, *transitions.events(_subject(seen, status), seen.status, status)]
    unconfirmed = await world.bus.publish(happened) if happened else ()
    pending, lost = outbox.keep(unconfirmed)
    return status.model_copy(update={"outbox": pending}), lost


def _subject(seen: Seen, status: FunctionStatus) -> Subject:
    """With the spec only where an event tells it: when it is new, or goes."""
    spec: dict[str, Any] = {}
    is_told = status.observed_generation != seen.status.observed_generation or seen.metadata.deletion_timestamp
    if isinstance(seen, Snapshot) and is_told:
        spec = seen.fn.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    metadata = seen.metadata
    return Subject(metadata.key, metadata.uid, metadata.generation, spec, seen.now)


async def _write(seen: Seen, status: FunctionStatus, world: World) -> bool:
    """One merge patch of what changed, none when nothing did. False: the function is gone, nothing is left to tell."""
    changes = difference(_plain(seen.status), _plain(status))
    if not changes:
        return True
    try:
        answer = await world.cluster.patch(
            kinds.LAMBDA_FUNCTION, seen.metadata.key, {"status": changes}, subresource="status"
        )
    except NotFound:
        world.functions.forget(seen.metadata.key)
        return False
    world.functions.record(project_function(answer))
    return True


def _plain(status: FunctionStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The JSON merge patch that makes `new` of `old`."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := difference(before, value):
                patch[name] = inner
        elif value != before:
            patch[name] = value
    return patch


def _tell(seen: Seen, told: Iterable[Notice], world: World) -> None:
    regarding = Regarding(kinds.LAMBDA_FUNCTION, seen.metadata.key, seen.metadata.uid)
    for notice in told:
        world.recorder.record(
            regarding, type=notice.type, reason=notice.reason, note=notice.note, action=notices.ACTION
        )


async def _release(seen: Seen, status: FunctionStatus, world: World) -> Requeue | None:
    """Takes the finalizer off once the last events are safe, or when waiting for that has become unreasonable."""
    since = seen.metadata.deletion_timestamp or seen.now
    if status.outbox:
        if (seen.now - since).total_seconds() < world.settings.deletion_patience:
            return Requeue(HELD_RETRY)
        _tell(seen, [notices.dropped(outbox.revive(status.outbox))], world)
    await _take_finalizer_off(seen.metadata.key, world)
    return None


async def _take_finalizer_off(key: Key, world: World) -> None:
    latest = world.functions.get(key)
    if latest is None:
        return
    metadata = latest.load()["metadata"]
    kept = tuple(name for name in metadata.get("finalizers", ()) if name != meta.FINALIZER)
    try:
        answer = await patch_finalizers(world, key, kept, resource_version=latest.resource_version)
    except NotFound:
        world.functions.forget(key)
    else:
        world.functions.record(project_function(answer))


def _next_look(verdicts: Sequence[Verdict], status: FunctionStatus) -> Requeue | None:
    """The soonest that anybody asked for, spread a little; None where a watch will wake us."""
    asked = [one.after for one in verdicts if not isinstance(one, Go) and one.after is not None]
    if asked:
        return Requeue(min(asked) * _spread())
    return Requeue(OUTBOX_RETRY * _spread(), Priority.LOW) if status.outbox else None


def _spread() -> float:
    return random.uniform(1.0, 1.2)  # noqa: S311 - spreads load, guards nothing
