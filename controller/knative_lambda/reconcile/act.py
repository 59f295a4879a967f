"""Carries out the writes of a plan, in order. Failures are values: no ClusterError leaves this module."""

from __future__ import annotations

from dataclasses import dataclass

from knative_lambda.api import kinds
from knative_lambda.api.conditions import Reason
from knative_lambda.api.meta import ANNOTATION_BUILD, Key, Kind
from knative_lambda.cluster.base import (
    AlreadyExists,
    CircuitOpen,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    KindNotInstalled,
    NotFound,
    Object,
    TooManyRequests,
    Unavailable,
    WriteFenced,
)
from knative_lambda.reconcile.plan import Apply, Create, Delete, Hold, Plan, Share, Write
from knative_lambda.reconcile.snapshot import Seen
from knative_lambda.reconcile.world import World
from knative_lambda.resources import child
from knative_lambda.resources.child import Manifest, Ownership
from knative_lambda.resources.observed import (
    project_broker,
    project_function,
    project_job,
    project_service,
    project_trigger,
)

_ABORTING = (WriteFenced, Unavailable, TooManyRequests)
"""After these, the next write has no better chance."""
_UNTOLD = (WriteFenced, Conflict, TooManyRequests, CircuitOpen)
"""These pass by themselves; a status write that tells of them would only make them worse."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A write that did not happen."""

    write: Write
    reason: Reason
    message: str
    error: ClusterError

    @property
    def needs_person(self) -> bool:
        """Whether the server understood and said no."""
        return self.reason is not Reason.WRITE_FAILED


@dataclass(frozen=True, slots=True)
class Outcome:
    """What went wrong; empty is success."""

    failures: tuple[Failure, ...] = ()

    @property
    def error(self) -> ClusterError | None:
        """The first failure that trying again may heal."""
        return next((one.error for one in self.failures if not one.needs_person), None)

    @property
    def is_untold(self) -> bool:
        """Whether nothing is to be said: we may not write, came too late, or the server asks for fewer writes."""
        return isinstance(self.error, _UNTOLD)


async def act(plan: Plan, seen: Seen, world: World) -> Outcome:
    """Tries every write; stops where going on would be in vain, and then counts the rest as failed, too."""
    failures: list[Failure] = []
    for place, write in enumerate(plan.writes):
        failure = await _attempt(write, seen, world)
        if failure is None:
            continue
        failures.append(failure)
        if isinstance(failure.error, _ABORTING) or isinstance(write, Hold):
            rest = plan.writes[place + 1 :]
            failures += [Failure(one, failure.reason, failure.message, failure.error) for one in rest]
            break
    return Outcome(tuple(failures))


async def _attempt(write: Write, seen: Seen, world: World) -> Failure | None:
    try:
        if isinstance(write, Create):
            return await _create(write, seen, world)
        if isinstance(write, Apply):
            await _apply(write, world)
        elif isinstance(write, Share):
            await _share(write, world)
        elif isinstance(write, Delete):
            await _delete(write, world)
        else:
            await _hold(write, seen.metadata.key, world)
    except ClusterError as error:
        return _failure(write, error)
    return None


def _failure(write: Write, error: ClusterError) -> Failure:
    if isinstance(error, KindNotInstalled):
        return Failure(write, Reason.KIND_NOT_INSTALLED, error.message, error)
    if isinstance(error, Conflict) and isinstance(write, Apply):
        return Failure(write, Reason.NOT_OWNED, f"somebody else owns it: {error.message}", error)
    refused = isinstance(error, Invalid | Forbidden)
    return Failure(write, Reason.REFUSED if refused else Reason.WRITE_FAILED, error.message, error)


async def _create(write: Create, seen: Seen, world: World) -> Failure | None:
    """A Job. The name is taken: by our own earlier self, whose answer got lost, or by a stranger."""
    try:
        made = await world.cluster.create(write.kind, write.manifest)
    except AlreadyExists as error:
        return await _existing(write, seen, world, error)
    world.jobs.record(project_job(made))
    return None


async def _existing(write: Create, seen: Seen, world: World, error: AlreadyExists) -> Failure | None:
    metadata = write.manifest["metadata"]
    job = project_job(await world.cluster.get(write.kind, Key(metadata["namespace"], metadata["name"])))
    same_build = job.build_digest == metadata["annotations"][ANNOTATION_BUILD]
    if child.ownership(job, seen.metadata) is not Ownership.OURS or not same_build:
        return Failure(write, Reason.NOT_OWNED, f"Job {job.key} belongs to somebody else", error)
    world.jobs.record(job)
    return None


async def _apply(write: Apply, world: World) -> None:
    answer = await world.cluster.apply(write.kind, write.manifest, force=write.force)
    if write.kind == kinds.SERVICE:
        service = project_service(answer)
        world.services.record(service)
        world.settled.remember(service, write.manifest)
    elif write.kind == kinds.TRIGGER:
        trigger = project_trigger(answer)
        world.triggers.record(trigger)
        world.settled.remember(trigger, write.manifest)


async def _share(write: Share, world: World) -> None:
    """In order: a Broker is never there before the config that it names. A new one is seen by others at once."""
    for kind, manifest in write.needs:
        await _provide(kind, manifest, world)
    made = await _provide(write.kind, write.manifest, world)
    if made is not None and write.kind == kinds.BROKER:
        world.brokers.record(project_broker(made))


async def _provide(kind: Kind, manifest: Manifest, world: World) -> Object | None:
    """None: another function's reconcile was faster, or a person."""
    try:
        return await world.cluster.create(kind, manifest)
    except AlreadyExists:
        return None


async def _delete(write: Delete, world: World) -> None:
    """Gone, or another object under that name by now: both are what was wanted."""
    try:
        await world.cluster.delete(write.kind, write.key, uid=write.uid)
    except NotFound:
        return
    except Conflict:
        return
    finally:
        world.settled.forget(write.uid)


async def _hold(write: Hold, key: Key, world: World) -> None:
    answer = await patch_finalizers(world, key, write.finalizers, resource_version=write.resource_version)
    world.functions.record(project_function(answer))


async def patch_finalizers(world: World, key: Key, finalizers: tuple[str, ...], *, resource_version: str) -> Object:
    """Guarded, for a list is replaced whole and other people's finalizers are in it, too."""
    patch = {"metadata": {"finalizers": list(finalizers), "resourceVersion": resource_version}}
    return await world.cluster.patch(kinds.LAMBDA_FUNCTION, key, patch)
