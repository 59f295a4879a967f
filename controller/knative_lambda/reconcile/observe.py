"""Reads the caches once into a Snapshot.

Nothing is asked over the network but a source that is not resolved yet, and a dead-letter queue that is not known to be
there: neither has an object that could be watched.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from knative_lambda.api import kinds, meta
from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import FunctionStatus, LambdaFunction
from knative_lambda.api.meta import Key, ObjectMeta
from knative_lambda.cluster.base import ClusterError, Forbidden, NotFound
from knative_lambda.events.dead_letters import QueueState
from knative_lambda.reconcile.snapshot import Seen, Snapshot, SourceProblem, Unreadable
from knative_lambda.reconcile.steps import build
from knative_lambda.reconcile.world import World
from knative_lambda.resources import kaniko_job, names
from knative_lambda.resources.observed import BrokerSeen, FunctionSeen
from knative_lambda.sources import identity
from knative_lambda.sources.base import ANONYMOUS, Credentials, Resolution, SourceError


async def observe(key: Key, world: World) -> Seen | None:
    """None when there is nothing to do: the function is gone, or going and no longer ours to hold."""
    found = world.functions.get(key)
    if found is None:
        return None
    try:
        fn = found.parse()
    except ValidationError as error:
        return _unreadable(found, error, world)
    if fn.deleting and meta.FINALIZER not in fn.metadata.finalizers:
        return None
    seen = _snapshot(fn, world)
    if fn.deleting:
        return seen
    queue = await _dead_letters(fn, world)
    return replace(seen, resolution=await _resolution(seen, world), dead_letters=queue)


def _snapshot(fn: LambdaFunction, world: World) -> Snapshot:
    key = fn.key
    triggers = world.triggers.of_function(key)
    wanted = {Key(key.namespace, names.trigger(fn, one)) for one in fn.spec.triggers}
    strangers = [one for name in wanted if (one := world.triggers.get(name)) is not None and one not in triggers]
    return Snapshot(
        fn=fn,
        now=world.clock.now(),
        jobs=tuple(world.jobs.of_function(key)),
        pods=tuple(world.pods.of_function(key)),
        service=world.services.get(Key(key.namespace, names.service(fn))),
        triggers=(*triggers, *strangers),
        brokers=_brokers(fn, world),
        settled=world.settled,
    )


async def _dead_letters(fn: LambdaFunction, world: World) -> QueueState | None:
    """Only events come to dead-letter queues, so only functions with triggers have one."""
    if world.dead_letters is None or not fn.spec.triggers:
        return None
    return await world.dead_letters.ensure(fn.key)


def _brokers(fn: LambdaFunction, world: World) -> dict[str, BrokerSeen]:
    asked = {wanted.broker for wanted in fn.spec.triggers}
    found = {name: world.brokers.get(Key(fn.metadata.namespace, name)) for name in asked}
    return {name: broker for name, broker in found.items() if broker is not None}


def _unreadable(found: FunctionSeen, error: ValidationError, world: World) -> Seen | None:
    raw = found.load()
    metadata = ObjectMeta.model_validate(raw["metadata"])
    if metadata.deletion_timestamp is not None and meta.FINALIZER not in metadata.finalizers:
        return None
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return Unreadable(
        metadata=metadata,
        status=_status(raw),
        problem=f"{place}: {first['msg']}",
        now=world.clock.now(),
        jobs=tuple(world.jobs.of_function(found.key)),
    )


def _status(raw: dict[str, Any]) -> FunctionStatus:
    """The status if it can be read; a status that cannot is written anew."""
    try:
        return FunctionStatus.model_validate(raw.get("status") or {})
    except ValidationError:
        return FunctionStatus()


async def _resolution(seen: Snapshot, world: World) -> Resolution | SourceProblem | None:
    """What the status says of this generation, unless another build is asked for; else what the source says."""
    if seen.fn.spec.source.image is not None:
        return None
    recorded = _recorded(seen)
    if recorded is not None and not _is_rebuild_asked(seen, recorded, world):
        return recorded
    try:
        credentials = await _credentials(seen.fn, world)
        return await world.sources.resolve(seen.fn.spec.source, credentials)
    except SourceError as error:
        return SourceProblem(error.reason, error.message, retry=error.retry)
    except ClusterError as error:
        return SourceProblem(Reason.UNREACHABLE, f"the source's Secret cannot be read: {error.message}", retry=True)


def _recorded(seen: Snapshot) -> Resolution | None:
    before = seen.status.source_status
    if before is None or not before.digest or before.generation != seen.metadata.generation:
        return None
    return Resolution(digest=before.digest, revision=before.revision)


def _is_rebuild_asked(seen: Snapshot, recorded: Resolution, world: World) -> bool:
    """A rebuild looks at the branch again, too."""
    runtime, before = seen.fn.spec.runtime, seen.status.build_status
    if runtime is None or before is None or not before.digest:
        return False
    return build.identity(seen, runtime, recorded, world.settings) != before.digest


async def _credentials(fn: LambdaFunction, world: World) -> Credentials:
    """Read only when the remote must be asked: a pinned source answers by itself."""
    source = fn.spec.source
    secret = kaniko_job.source_secret_of(source)
    if secret is None or (source.git is not None and identity.pinned_commit(source.git)):
        return ANONYMOUS
    key = Key(fn.metadata.namespace, secret.name)
    try:
        found = await world.cluster.get(kinds.SECRET, key)
    except NotFound as error:
        raise SourceError(Reason.SECRET_NOT_FOUND, f"there is no Secret {key}") from error
    except Forbidden as error:
        raise SourceError(Reason.SECRET_NOT_FOUND, f"Secret {key} may not be read by the controller") from error
    try:
        values = {name: base64.b64decode(value).decode() for name, value in (found.get("data") or {}).items()}
    except (binascii.Error, UnicodeDecodeError) as error:
        raise SourceError(Reason.AUTHENTICATION_FAILED, f"Secret {key} holds something that is no text") from error
    return Credentials(values)
