"""Asks the remote when it is time, and reads the revision that it names. Failures become values. Called by loop."""

from __future__ import annotations

import base64
import binascii
import functools
import random

from knative_lambda.api import kinds
from knative_lambda.api.conditions import Reason
from knative_lambda.api.meta import Key
from knative_lambda.api.repository import FunctionRepository
from knative_lambda.cluster.base import ClusterError, Forbidden, NotFound
from knative_lambda.gitsync import discovery
from knative_lambda.gitsync.base import Remote
from knative_lambda.gitsync.desired import Frame
from knative_lambda.gitsync.diff import Revision
from knative_lambda.gitsync.observed import RepositorySeen
from knative_lambda.gitsync.world import Known, SyncWorld
from knative_lambda.kit import duration
from knative_lambda.kit.backoff import Backoff
from knative_lambda.sources.base import ANONYMOUS, Credentials, SourceError

RETRIES = Backoff(base=1.0, cap=300.0)
SIGNERS_KEY = "allowed_signers"


async def look(seen: RepositorySeen, repo: FunctionRepository, world: SyncWorld) -> Known:
    """What is known of the remote now; asks it if that is due. Never raises for a remote or a Secret."""
    known = world.known[seen.key]
    if known.generation != repo.metadata.generation:
        _begin_anew(known, repo.metadata.generation)
    marked = world.requests.take(seen.key)
    annotated = seen.reconcile_requested not in (known.handled, repo.status.last_handled_reconcile_at)
    if marked or annotated or not known.asked or world.clock.monotonic() >= known.next_ask:
        await _ask(repo, known, world)
        known.handled = seen.reconcile_requested
    return known


def _begin_anew(known: Known, generation: int) -> None:
    """Another spec is another question; nothing that was read for the old one answers it."""
    known.generation = generation
    known.asked, known.failures, known.problem = False, 0, None
    known.head, known.revision, known.reads = "", None, {}


async def _ask(repo: FunctionRepository, known: Known, world: SyncWorld) -> None:
    try:
        remote = await remote_of(repo, world)
        known.head = await world.checkout.ls_remote(remote)
        if known.revision is None or known.revision.commit != known.head:
            await _read(repo, remote, known, world)
        known.problem, known.failures = None, 0
    except SourceError as error:
        known.problem, known.failures = error, known.failures + 1
    known.asked = True
    known.next_ask = world.clock.monotonic() + _pause(repo, known, world)


def _pause(repo: FunctionRepository, known: Known, world: SyncWorld) -> float:
    """What time may heal is asked again soon; everything else, also a missing ref, at the next poll."""
    interval = duration.seconds(repo.spec.interval)
    if known.problem is not None and known.problem.retry:
        return min(RETRIES.delay(known.failures - 1), max(interval, RETRIES.base))
    spread = world.settings.jitter
    return interval * random.uniform(1 - spread, 1 + spread)  # noqa: S311 - spreads load, guards nothing


async def _read(repo: FunctionRepository, remote: Remote, known: Known, world: SyncWorld) -> None:
    known.head = await world.checkout.fetch(remote, known.head)
    if repo.spec.verify is not None:
        signers = await _secret(Key(repo.metadata.namespace, repo.spec.verify.secret_ref.name), world)
        if not signers.get(SIGNERS_KEY):
            words = f"Secret {repo.spec.verify.secret_ref.name} has no key {SIGNERS_KEY}"
            raise SourceError(Reason.SECRET_NOT_FOUND, words)
        await world.checkout.verify(remote, known.head, signers.get(SIGNERS_KEY))
    find = functools.partial(
        discovery.discover,
        path=repo.spec.path,
        namespace=repo.target_namespace,
        limits=world.settings.limits,
        known=known.reads,
    )
    discovered = await world.checkout.inspect(remote, known.head, find)
    known.reads = discovered.known
    known.revision = Revision(Frame.of(repo), known.head, discovered)


async def remote_of(repo: FunctionRepository, world: SyncWorld) -> Remote:
    """Address, ref and credentials; SourceError when the Secret cannot be had."""
    credentials = ANONYMOUS
    if repo.spec.secret_ref is not None:
        credentials = await _secret(Key(repo.metadata.namespace, repo.spec.secret_ref.name), world)
    seconds = max(duration.seconds(repo.spec.timeout), 1)
    return Remote(repo.spec.url, repo.spec.ref, credentials, seconds=seconds)


async def _secret(key: Key, world: SyncWorld) -> Credentials:
    """Read from the API server at every look: Secrets are in no cache, so that no other is ever read."""
    try:
        secret = await world.cluster.get(kinds.SECRET, key)
    except NotFound as error:
        raise SourceError(Reason.SECRET_NOT_FOUND, f"there is no Secret {key}") from error
    except Forbidden as error:
        raise SourceError(Reason.SECRET_NOT_FOUND, f"the controller may not read the Secret {key}") from error
    except ClusterError as error:
        raise SourceError(Reason.UNREACHABLE, f"cannot read the Secret {key}: {error.message}", retry=True) from error
    try:
        values = {name: base64.b64decode(text, validate=True).decode() for name, text in secret.get("data", {}).items()}
    except (binascii.Error, UnicodeDecodeError) as error:
        raise SourceError(Reason.SECRET_NOT_FOUND, f"the Secret {key} holds values that are not text") from error
    return Credentials({**values, **secret.get("stringData", {})})
