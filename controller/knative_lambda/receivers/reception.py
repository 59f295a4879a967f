"""One delivery, from headers to answer: read, find, verify, understand, ask for a look. Called by app.

Whoever cannot sign learns nothing: an unknown path takes the same way as a known one, with a key that nobody has.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import orjson
import structlog

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.gitsync.observed import HOOK_INDEX, REPOSITORY_INDEX, RepositorySeen, WebhookSeen
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.recorder import Regarding
from knative_lambda.machinery.store import Store
from knative_lambda.receivers import bodies, deliveries, documents, forges, relevance
from knative_lambda.receivers.base import Delivery, Forge, Headers, News, Ping, Verdict
from knative_lambda.receivers.bodies import Budget
from knative_lambda.receivers.deliveries import Accepted
from knative_lambda.receivers.outcomes import ADVICE, VERDICTS, Counts, Outcome, Refused
from knative_lambda.receivers.tokens import Tokens
from knative_lambda.resources.observed import FunctionSeen

EVENT_REASON = "WebhookRejected"
INLINE_BYTES = 64 * 1024
"""Bodies that are longer are parsed in a thread: the loop waits for nothing that takes over 10 ms."""
_DECOY = secrets.token_bytes(32)

log = structlog.get_logger(__name__)


class Recorder(Protocol):
    """Tells people, by Kubernetes Events (machinery.recorder)."""

    def record(
        self, regarding: Regarding, *, type: Literal["Normal", "Warning"], reason: str, note: str, action: str
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one delivery may cost."""

    body_bytes: int = 1024 * 1024
    body_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class World:
    """Caches and ports. Made by wiring, or by a test with memory twins."""

    repositories: Store[RepositorySeen]
    """With the index HOOK_INDEX."""
    functions: Store[FunctionSeen]
    """With the index REPOSITORY_INDEX."""
    tokens: Tokens
    ask: Callable[[Key], None]
    """Asks for a look at the repository (looks.Looks.ask)."""
    recorder: Recorder
    clock: Clock
    accepted: Accepted
    counts: Counts = field(default_factory=Counts)
    limits: Limits = Limits()
    budget: Budget = field(default_factory=Budget)

    def find(self, path: str) -> RepositorySeen | None:
        """The repository whose forge calls that path."""
        return next(iter(self.repositories.by_index(HOOK_INDEX, path)), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender is told."""

    outcome: Outcome
    message: str = ""


async def receive(path: str, headers: Headers, stream: AsyncIterator[bytes], world: World) -> Answer:
    """Answers every delivery; raises nothing that the network or a Secret may cause."""
    repo, forge = world.find(path), forges.match(headers)
    try:
        bodies.check_headers(headers, limit=world.limits.body_bytes)
        body = await _body(stream, world)
        try:
            answer = await _handle(repo, forge, Delivery(headers, body, world.clock.now()), world)
        finally:
            world.budget.give_back(len(body))
    except Refused as refusal:
        answer = Answer(refusal.outcome, refusal.message)
        _tell(repo, refusal.outcome, world)
    world.counts.add(forge.name if forge else None, answer.outcome)
    return answer


async def _body(stream: AsyncIterator[bytes], world: World) -> bytes:
    limits = world.limits
    return await bodies.read(
        stream, world.budget, limit=limits.body_bytes, seconds=limits.body_seconds, clock=world.clock
    )


async def _handle(repo: RepositorySeen | None, forge: Forge | None, delivery: Delivery, world: World) -> Answer:
    if forge is None:
        raise Refused(Outcome.UNKNOWN_SENDER if repo else Outcome.UNKNOWN_PATH)
    known, hook = await _trusted(repo, forge, delivery, world)
    mark = forge.delivery_id(delivery.headers)
    identity = deliveries.identity(known.uid, mark, delivery.body)
    if mark and identity in world.accepted:
        return Answer(Outcome.DUPLICATE, "this delivery was accepted before")
    answer = _act(known.key, hook, await _read(forge, delivery), world)
    if mark:
        world.accepted.add(identity)
    return answer


async def _trusted(
    repo: RepositorySeen | None, forge: Forge, delivery: Delivery, world: World
) -> tuple[RepositorySeen, WebhookSeen]:
    """The repository, once the sender has shown that it holds its secret."""
    hook = repo.webhook if repo else None
    token = await world.tokens.get(Key(repo.key.namespace, hook.secret)) if repo and hook else None
    verdict = forge.verify(delivery, token or _DECOY)
    if repo is None or hook is None:
        raise Refused(Outcome.UNKNOWN_PATH)
    if token is None:
        raise Refused(Outcome.NO_SECRET)
    if verdict is not Verdict.GOOD:
        raise Refused(VERDICTS[verdict])
    if hook.suspended or repo.deleting:
        raise Refused(Outcome.SUSPENDED)
    return repo, hook


async def _read(forge: Forge, delivery: Delivery) -> News:
    body = delivery.body
    try:
        long = len(body) > INLINE_BYTES
        payload = await asyncio.to_thread(documents.parse, body) if long else documents.parse(body)
    except documents.Malformed as error:
        raise Refused(Outcome.MALFORMED, str(error)) from error
    return forge.read(delivery.headers, payload)


def _act(key: Key, hook: WebhookSeen, news: News, world: World) -> Answer:
    if isinstance(news, Ping):
        return Answer(Outcome.PING, "pong")
    reason = relevance.why_not(news, hook, lambda: _watched(key, world))
    if reason:
        return Answer(Outcome.IGNORED, reason)
    world.ask(key)
    return Answer(Outcome.ACCEPTED, "the repository is looked at")


def _watched(key: Key, world: World) -> Iterable[str]:
    """build.watchPaths of the repository's functions, of those few that have any."""
    for fn in world.functions.by_index(REPOSITORY_INDEX, key):
        if b'"watchPaths"' in fn.raw:
            yield from orjson.loads(fn.raw)["spec"].get("build", {}).get("watchPaths", ())


def _tell(repo: RepositorySeen | None, outcome: Outcome, world: World) -> None:
    """A Kubernetes Event on the repository; none for a path that is nobody's."""
    note = ADVICE.get(outcome)
    log.debug("webhook refused", outcome=outcome.value, repository=str(repo.key) if repo else None)
    if repo is not None and note is not None:
        regarding = Regarding(kinds.FUNCTION_REPOSITORY, repo.key, repo.uid)
        world.recorder.record(regarding, type="Warning", reason=EVENT_REASON, note=note, action="Receive")
