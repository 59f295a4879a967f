"""One look at one FunctionRepository: observe, fetch if due, decide, act, report. Level-triggered.

Called by a machinery Runner for every key that handlers, SyncRequests or a Requeue put into its queue.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError

from knative_lambda.api import conditions, kinds
from knative_lambda.api.conditions import ConditionType, Status
from knative_lambda.api.meta import FINALIZER, Key
from knative_lambda.api.repository import FunctionRepository, RepositoryStatus
from knative_lambda.cluster.base import NotFound
from knative_lambda.gitsync import acting, diff, fetching, leaving, reporting
from knative_lambda.gitsync.acting import Outcome
from knative_lambda.gitsync.diff import Changes, ClusterSeen, PrunePolicy
from knative_lambda.gitsync.observed import REPOSITORY_INDEX, RepositorySeen, version
from knative_lambda.gitsync.reporting import Synced
from knative_lambda.gitsync.world import Known, SyncWorld
from knative_lambda.kit.backoff import Backoff
from knative_lambda.machinery.queue import Priority
from knative_lambda.machinery.recorder import Regarding
from knative_lambda.machinery.runner import Requeue

RETRIES = Backoff(base=1.0, cap=300.0)


async def sync(key: Key, world: SyncWorld) -> Requeue | None:
    """Brings the cluster to the newest revision. Raises ClusterError when not even the status could be written."""
    seen = observe(key, world)
    if seen is None:
        return None
    if seen.deleting:
        return await leaving.finalize(seen, world)
    repo = await _readable(seen, world)
    if repo is None or repo.spec.suspend:
        return None
    await _hold(seen, world)
    known = await fetching.look(seen, repo, world)
    changes = await asyncio.to_thread(decide, known, snapshot(seen, repo, known, world), policy(seen, repo))
    outcome = await acting.act(key, changes, world) if changes is not None else Outcome()
    return await report(seen, Synced(repo, known, changes, outcome), world)


# Observe.


def observe(key: Key, world: SyncWorld) -> RepositorySeen | None:
    """The repository in the cache; what is remembered of one that is gone is dropped."""
    seen = world.repositories.get(key)
    if seen is None:
        world.known.pop(key, None)
        world.requests.take(key)
        return None
    known = world.known.get(key)
    if known is None or known.uid != seen.uid:
        world.known[key] = Known(seen.uid)
    return seen


async def _readable(seen: RepositorySeen, world: SyncWorld) -> FunctionRepository | None:
    """The typed object with the newest status; an unreadable or suspended one says so in its status."""
    known = world.known[seen.key]
    try:
        repo = _parsed(seen, known)
    except ValidationError as error:
        message = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        before = seen.status()
        after = reporting.invalid(before, seen.generation, message=message, now=world.clock.now())
        await _write_status(seen, before, after, world)
        return None
    if repo.spec.suspend:
        await _write_status(seen, repo.status, reporting.suspended(repo, world.clock.now()), world)
    return repo


def _parsed(seen: RepositorySeen, known: Known) -> FunctionRepository:
    if known.parsed is None or known.parsed[0] != seen.resource_version:
        known.parsed = (seen.resource_version, seen.parse())
    repo = known.parsed[1]
    if known.status is not None and version(seen.resource_version) < known.status[0]:
        return repo.model_copy(update={"status": known.status[1]})
    return repo


def snapshot(seen: RepositorySeen, repo: FunctionRepository, known: Known, world: SyncWorld) -> ClusterSeen:
    """Everything in the caches that bears on this repository; no call to the API server."""
    ours = {fn.key: fn for fn in world.functions.by_index(REPOSITORY_INDEX, seen.key)}
    declared = known.revision.discovered.functions if known.revision else ()
    keys = (Key(repo.target_namespace, one.name) for one in declared)
    found = ((key, world.functions.get(key)) for key in keys if key not in ours)
    return ClusterSeen(
        ours=ours,
        others={key: fn for key, fn in found if fn is not None},
        inventory=repo.status.inventory,
        written=known.unseen_writes(world.functions, world.clock.monotonic()),
    )


def policy(seen: RepositorySeen, repo: FunctionRepository) -> PrunePolicy:
    """What a person said about deleting."""
    return PrunePolicy(prune=repo.spec.prune, allowed=seen.prune_allowed)


async def _hold(seen: RepositorySeen, world: SyncWorld) -> None:
    """Our finalizer, before anything is written that deletion would have to undo."""
    known = world.known[seen.key]
    if FINALIZER in seen.finalizers or known.finalized == seen.uid:
        return
    patch = {"metadata": {"finalizers": [*seen.finalizers, FINALIZER], "resourceVersion": seen.resource_version}}
    await world.cluster.patch(kinds.FUNCTION_REPOSITORY, seen.key, patch)
    known.finalized = seen.uid


# Decide.


def decide(known: Known, cluster: ClusterSeen, policy: PrunePolicy) -> Changes | None:
    """Pure; in a thread of its own, for a first look at thousands of functions takes longer than the loop may wait."""
    if known.revision is None:
        return None
    return diff.decide(known.revision, cluster, policy, known.memory)


# Report.


async def report(seen: RepositorySeen, synced: Synced, world: SyncWorld) -> Requeue:
    """One status patch if anything changed, Events for what people should know, and when to look again."""
    known, changes = synced.known, synced.changes
    if changes is not None:
        known.memory = changes.memory
        known.written |= synced.outcome.written
    after = reporting.status(synced, world.clock.now())
    await _write_status(seen, synced.repo.status, after, world)
    _tell(seen, synced, after, world)
    return _next_look(synced, world)


async def _write_status(
    seen: RepositorySeen, before: RepositoryStatus, after: RepositoryStatus, world: SyncWorld
) -> None:
    """Sends the fields that differ; nothing when none does."""
    changed = status_patch(before, after)
    if not changed:
        return
    try:
        made = await world.cluster.patch(kinds.FUNCTION_REPOSITORY, seen.key, {"status": changed}, subresource="status")
    except NotFound:
        return
    world.known[seen.key].status = (version(made["metadata"]["resourceVersion"]), after)


def _tell(seen: RepositorySeen, synced: Synced, after: RepositoryStatus, world: SyncWorld) -> None:
    """Kubernetes Events: what was written, and each condition that went wrong or well again."""
    regarding = Regarding(kinds.FUNCTION_REPOSITORY, seen.key, seen.uid)
    written, deleted = len(synced.outcome.written), len(synced.outcome.deleted)
    if written or deleted:
        note = f"wrote {written} and deleted {deleted} functions for {after.observed_revision}"
        world.recorder.record(regarding, type="Normal", reason="Applied", note=note, action="Apply")
    for kind, action in (
        (ConditionType.FETCHED, "Fetch"),
        (ConditionType.APPLIED, "Apply"),
        (ConditionType.READY, "Sync"),
    ):
        row, old = conditions.find(after.conditions, kind), conditions.find(synced.repo.status.conditions, kind)
        if row is None or (old is not None and (old.status, old.reason) == (row.status, row.reason)):
            continue
        if row.status is Status.FALSE:
            world.recorder.record(regarding, type="Warning", reason=row.reason, note=row.message, action=action)
        elif row.status is Status.TRUE and kind is ConditionType.READY:
            world.recorder.record(regarding, type="Normal", reason=row.reason, note=row.message, action=action)


def _next_look(synced: Synced, world: SyncWorld) -> Requeue:
    """The next poll, or sooner when something is left to do."""
    known, outcome = synced.known, synced.outcome
    waits = [max(known.next_ask - world.clock.monotonic(), 0.0)]
    if outcome.stopped:
        waits.append(0.0)
    if outcome.failed:
        known.write_failures += 1
        waits.append(max(RETRIES.delay(known.write_failures - 1), outcome.retry_after))
    else:
        known.write_failures = 0
    if synced.changes is not None and synced.changes.unconfirmed:
        waits.append(diff.TRUST_SECONDS)
    after = min(waits)
    return Requeue(after, Priority.NORMAL if len(waits) > 1 else Priority.LOW)


def status_patch(before: RepositoryStatus, after: RepositoryStatus) -> dict[str, Any]:
    """The fields of a status that differ, as a merge patch."""
    differing = {name for name in RepositoryStatus.model_fields if getattr(before, name) != getattr(after, name)}
    return after.model_dump(by_alias=True, mode="json", include=differing)
