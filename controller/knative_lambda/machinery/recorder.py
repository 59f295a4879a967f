"""Kubernetes Events, for `kubectl describe`: told in passing by reconcilers, posted in the background.

Nothing waits for them and nothing depends on them. Not to be confused with our CloudEvents (package events).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

import structlog

from knative_lambda.api import kinds
from knative_lambda.api.meta import MANAGED_BY, Key, Kind
from knative_lambda.cluster.base import (
    AlreadyExists,
    Cluster,
    ClusterError,
    Forbidden,
    Invalid,
    NotFound,
    Object,
)
from knative_lambda.kit import digest, redact
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.timing import micro_time, within

NOTE_BYTES = 1024
"""What the API server accepts as a note, in UTF-8."""
AGGREGATE_SECONDS = 600.0
"""The same notice again within this time counts up the first one."""
SERIES_SECONDS = 60.0
"""How often a counted-up notice is written at most."""
NOTICES = 1000
"""Notices that wait to be posted; more push out the oldest."""
SERIES = 4096
"""Notices that are remembered for counting up."""
ATTEMPTS = 3
RETRIES = Backoff(base=0.5, cap=5.0)
_NAME_LENGTH = 200
_CLUSTER_SCOPED = "default"
"""Namespace of Events about objects that have none."""
_HOPELESS = (Invalid, Forbidden, NotFound)
"""Refusals that another attempt does not change: among others a namespace that is going away."""

log = structlog.get_logger(__name__)

Identity = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that a notice is about."""

    kind: Kind
    key: Key
    uid: str
    resource_version: str = ""

    def reference(self) -> Object:
        """As a core/v1 ObjectReference."""
        reference = {
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "namespace": self.key.namespace,
            "name": self.key.name,
            "uid": self.uid,
            "resourceVersion": self.resource_version,
        }
        return {name: value for name, value in reference.items() if value}


@dataclass(slots=True)
class _Notice:
    """One Event object: as it is to be posted, and how often it has happened."""

    identity: Identity
    key: Key
    manifest: Object
    last_seen: float
    last_seen_at: str
    count: int = 1
    written: int = 0
    """The count that the API server knows; 0 is not posted yet."""
    queued: bool = True

    def series(self) -> Object:
        return {"count": self.count, "lastObservedTime": self.last_seen_at}


class Recorder:
    """`record` is for the loop's thread and never waits; `run` posts. Made by wiring, given to reconcilers."""

    def __init__(
        self, cluster: Cluster, *, clock: Clock, instance: str, controller: str = MANAGED_BY, rate: float = 50.0
    ) -> None:
        """`instance` names this process, `rate` is in writes per second and may be set later."""
        self.rate = rate
        self.dropped = 0
        """Notices that were pushed out or refused, ever."""
        self._cluster = cluster
        self._clock = clock
        self._instance = instance
        self._controller = controller
        self._outbox: deque[_Notice] = deque()
        self._known: OrderedDict[Identity, _Notice] = OrderedDict()
        self._work = asyncio.Event()
        self._made = 0

    def __len__(self) -> int:
        """Notices that wait to be written."""
        return len(self._outbox)

    def record(
        self, regarding: Regarding, *, type: Literal["Normal", "Warning"], reason: str, note: str, action: str
    ) -> None:
        """`reason` and `action` are UpperCamelCase words; `note` is for people, without secrets."""
        note = _clipped(redact.text(note), NOTE_BYTES)
        identity = (regarding.uid, type, reason, note)
        now = self._clock.monotonic()
        known = self._known.get(identity)
        if known is not None and now - known.last_seen < AGGREGATE_SECONDS:
            known.count += 1
            known.last_seen, known.last_seen_at = now, micro_time(self._clock.now())
            return
        described = {"type": type, "reason": reason, "note": note, "action": action}
        self._enqueue_new(self._notice(regarding, identity, described))

    async def run(self) -> None:
        """Posts notices and counts them up, until cancelled; call `drain` afterwards."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._post(), name="recorder")
            group.create_task(self._count_up(), name="recorder series")

    async def drain(self, seconds: float = 5.0) -> None:
        """Writes what waits, without the rate, for so many seconds at most; what is left then is dropped."""
        self._enqueue_series()
        try:
            await within(self._clock, seconds, self._empty())
        except TimeoutError:
            log.debug("notices dropped at the end", count=len(self._outbox))
            self.dropped += len(self._outbox)
            self._outbox.clear()

    # Queueing.

    def _notice(self, regarding: Regarding, identity: Identity, described: dict[str, str]) -> _Notice:
        now = micro_time(self._clock.now())
        self._made += 1
        mark = digest.short(self._instance, self._made, now, *identity, length=16)
        key = Key(regarding.key.namespace or _CLUSTER_SCOPED, f"{regarding.key.name[:_NAME_LENGTH]}.{mark}")
        manifest = {
            "apiVersion": kinds.EVENT.api_version,
            "kind": kinds.EVENT.kind,
            "metadata": {"namespace": key.namespace, "name": key.name},
            "eventTime": now,
            "reportingController": self._controller,
            "reportingInstance": self._instance[:128],
            "regarding": regarding.reference(),
            **described,
        }
        return _Notice(identity, key, manifest, last_seen=self._clock.monotonic(), last_seen_at=now)

    def _enqueue_new(self, notice: _Notice) -> None:
        self._known[notice.identity] = notice
        self._known.move_to_end(notice.identity)
        if len(self._known) > SERIES:
            self._known.popitem(last=False)
        self._outbox.append(notice)
        if len(self._outbox) > NOTICES:
            self._drop(self._outbox.popleft())
        self._work.set()

    def _drop(self, notice: _Notice) -> None:
        """The same notice, should it come again, is a new one."""
        self.dropped += 1
        notice.queued = False
        if self._known.get(notice.identity) is notice:
            del self._known[notice.identity]

    def _enqueue_series(self) -> None:
        """Queues what was counted up since it was written; forgets what did not come again."""
        now = self._clock.monotonic()
        for notice in list(self._known.values()):
            if notice.count > notice.written and not notice.queued:
                notice.queued = True
                self._outbox.append(notice)
                self._work.set()
            elif now - notice.last_seen >= AGGREGATE_SECONDS:
                del self._known[notice.identity]

    async def _count_up(self) -> None:
        while True:
            await self._clock.sleep(SERIES_SECONDS)
            self._enqueue_series()

    # Writing.

    async def _post(self) -> None:
        while True:
            await self._work.wait()
            await self._empty_one()
            await self._clock.sleep(1 / self.rate)

    async def _empty(self) -> None:
        while self._outbox:
            await self._empty_one()

    async def _empty_one(self) -> None:
        """Writes the oldest notice. It stays first in the queue meanwhile, so that a cancelled write is not lost."""
        if not self._outbox:
            self._work.clear()
            return
        notice = self._outbox[0]
        written = await self._write(notice)
        if self._outbox and self._outbox[0] is notice:  # else it was pushed out while it was being written
            self._outbox.popleft()
            notice.queued = False
        if not written:
            self._drop(notice)

    async def _write(self, notice: _Notice) -> bool:
        """Tries a few times; whether the API server has it now."""
        last: ClusterError | None = None
        for attempt in range(ATTEMPTS):
            if last is not None:
                await self._clock.sleep(max(last.retry_after or 0.0, RETRIES.delay(attempt - 1)))
            try:
                await self._send(notice)
                return True
            except ClusterError as error:
                last = error
            if isinstance(last, _HOPELESS):
                break
        log.debug("notice dropped", name=str(notice.key), error=redact.text(str(last)))
        return False

    async def _send(self, notice: _Notice) -> None:
        """A notice whose Event has expired at the server is posted anew."""
        count = notice.count
        if notice.written:
            try:
                await self._cluster.patch(kinds.EVENT, notice.key, {"series": notice.series()})
            except NotFound:
                notice.written = 0
        if not notice.written:
            await self._create(notice)
        notice.written = count

    async def _create(self, notice: _Notice) -> None:
        series = {"series": notice.series()} if notice.count > 1 else {}
        try:
            await self._cluster.create(kinds.EVENT, {**notice.manifest, **series})
        except AlreadyExists:
            log.debug("notice was posted by an attempt that got no answer", name=str(notice.key))


def _clipped(text: str, limit: int) -> str:
    """Cut at a character's border to so many bytes of UTF-8."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - len("…".encode())].decode(errors="ignore") + "…"
