"""The end of a FunctionRepository: its functions go, if it prunes, and its finalizer last. Called by loop."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from knative_lambda.api import kinds
from knative_lambda.api.meta import FINALIZER
from knative_lambda.cluster.base import NotFound
from knative_lambda.gitsync import acting
from knative_lambda.gitsync.diff import Changes, Removal
from knative_lambda.gitsync.observed import REPOSITORY_INDEX, RepositorySeen
from knative_lambda.gitsync.world import SyncWorld
from knative_lambda.machinery.runner import Requeue
from knative_lambda.resources.observed import FunctionSeen

LOOK_AGAIN = 10.0
"""Seconds; a deletion that the cache shows wakes the repository before."""
SOON = 1.0
"""Seconds until the cache shows what was written a moment ago."""


async def finalize(seen: RepositorySeen, world: SyncWorld) -> Requeue | None:
    """One step towards the end; raises ClusterError, which the runner repeats."""
    if FINALIZER not in seen.finalizers:
        return None
    if world.known[seen.key].unseen_writes(world.functions, world.clock.monotonic()):
        return Requeue(SOON)
    doomed = list(_doomed(seen, world))
    if not doomed:
        await _release(seen, world)
        return None
    outcome = await acting.act(seen.key, Changes(delete=tuple(one for one in doomed if one.uid)), world)
    for error in outcome.failed.values():
        raise error
    return Requeue(0.0 if outcome.stopped else LOOK_AGAIN)


def _doomed(seen: RepositorySeen, world: SyncWorld) -> Iterator[Removal]:
    """Functions in the inventory that are still there and still ours; without a uid when they are going already.

    A suspended repository, or one that this release cannot read, leaves its functions alone.
    """
    try:
        repo = seen.parse()
    except ValidationError:
        return
    if not repo.spec.prune or repo.spec.suspend:
        return
    ours: dict[object, FunctionSeen] = {fn.key: fn for fn in world.functions.by_index(REPOSITORY_INDEX, seen.key)}
    for item in repo.status.inventory:
        if fn := ours.get(item.key):
            yield Removal(item, "" if fn.deleting else fn.uid)


async def _release(seen: RepositorySeen, world: SyncWorld) -> None:
    rest = [name for name in seen.finalizers if name != FINALIZER]
    patch = {"metadata": {"finalizers": rest or None, "resourceVersion": seen.resource_version}}
    try:
        await world.cluster.patch(kinds.FUNCTION_REPOSITORY, seen.key, patch)
    except NotFound:
        return
