"""Keeps a Store equal to what the API server has of one kind, by list and watch, and tells handlers what changed.

Nothing is polled: one paged list, then watches that go on from the last version that was seen.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import (
    EVERYTHING,
    Cluster,
    ClusterError,
    EventKind,
    Gone,
    KindNotInstalled,
    Object,
    Page,
    Selection,
    WatchEvent,
)
from knative_lambda.kit import redact
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.store import Indexer, Store
from knative_lambda.machinery.timing import Pace, within

T = TypeVar("T")
Handler = Callable[[Key, T | None, T | None], None]
"""Called with the key, the old object and the new one; None is absent. Quick, on the loop's thread."""

WATCH_BACKOFF = Backoff(base=0.2, cap=30.0)
WATCH_SECONDS = (240, 360)
"""A watch's length is drawn from this range, so that watches that began together end apart."""
WATCH_GRACE = 30.0
"""Seconds after its length at which a watch that has not ended is given up as dead."""
LIST_TIMEOUT = 60.0
STEADY = 5.0
"""A watch that lived this many seconds was in order; its end is no failure of the server."""
RESTART_JITTER = 0.1
RELIST_AFTER = 10
"""Failures in a row after which the version is doubted: an API server restored from a backup never reaches it."""
LOOK_AGAIN = 30.0
"""Seconds between looks for a kind that is not installed."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Stream:
    """One selection's list and watch; an empty version means that the next thing to do is a list."""

    selection: Selection
    version: str = ""
    held: set[Key] = field(default_factory=set)
    failures: int = 0
    synced: bool = False


class Informer(Generic[T]):
    """One kind, over one or more selections, which may overlap. Made by wiring; `run` is one of its long tasks."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        project: Callable[[Object], T | None],
        *,
        clock: Clock,
        selections: Sequence[Selection] = (EVERYTHING,),
        indexes: Mapping[str, Indexer[T]] | None = None,
        page_size: int = 500,
        backoff: Backoff = WATCH_BACKOFF,
    ) -> None:
        """`project` makes of an API object what reconcilers read; with None the object counts as absent."""
        self.store: Store[T] = Store(indexes)
        self.kind = kind
        self.installed = False
        """Whether the API server has this kind; known once synced."""
        self._cluster = cluster
        self._project = project
        self._clock = clock
        self._page_size = page_size
        self._backoff = backoff
        self._handlers: list[Handler[T]] = []
        self._streams = [_Stream(selection) for selection in selections]
        self._versions: dict[Key, str] = {}
        self._refused: set[Key] = set()
        self._synced = asyncio.Event()

    @property
    def synced(self) -> bool:
        """True from the first moment at which the store was complete."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def on_change(self, handler: Handler[T]) -> None:
        """Before `run`: the first list is delivered too, object by object, with None as the old one."""
        self._handlers.append(handler)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for stream in self._streams:
                group.create_task(self._follow(stream), name=f"informer {self.kind}")

    async def _follow(self, stream: _Stream) -> None:
        while True:
            await self._clock.sleep(await self._turn(stream))

    async def _turn(self, stream: _Stream) -> float:
        """One watch, after a list if one is due; the seconds to wait before the next turn."""
        watching_since = None
        problem: Exception | None = None
        try:
            if not stream.version:
                await self._list(stream)
            watching_since = self._clock.monotonic()
            await self._watch(stream)
        except KindNotInstalled:
            await self._clear(stream)
            return LOOK_AGAIN * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
        except (ClusterError, TimeoutError) as error:
            problem = error
        lived = 0.0 if watching_since is None else self._clock.monotonic() - watching_since
        return self._pause(stream, lived, problem)

    def _pause(self, stream: _Stream, lived: float, problem: Exception | None) -> float:
        if lived >= STEADY:
            stream.failures = 0
            if problem is None:
                return random.uniform(0, RESTART_JITTER)  # noqa: S311 - spreads load, guards nothing
        stream.failures += 1
        if isinstance(problem, Gone) or stream.failures % RELIST_AFTER == 0:
            stream.version = ""
        asked = problem.retry_after or 0.0 if isinstance(problem, ClusterError) else 0.0
        pause = max(asked, self._backoff.delay(stream.failures - 1))
        self._report(stream, problem, pause)
        return pause

    def _report(self, stream: _Stream, problem: Exception | None, pause: float) -> None:
        """A first failure is everyday life of a watch, the next ones are news."""
        tell = log.debug if stream.failures == 1 else log.warning
        reason = redact.text(str(problem)) or type(problem).__name__ if problem else "the watch ended early"
        tell(
            "watch interrupted", kind=str(self.kind), reason=reason, failures=stream.failures, again_in=round(pause, 2)
        )

    # Listing.

    async def _list(self, stream: _Stream) -> None:
        """Takes in all pages, then drops what was not among them. Gone, when a token expired, starts it over."""
        listed: set[Key] = set()
        page = await self._page(stream, "")
        while True:
            self.installed = True
            await self._take_page(stream, page, listed)
            if not page.continue_token:
                break
            page = await self._page(stream, page.continue_token)
        await self._drop_all(stream, stream.held - listed)
        stream.version = page.resource_version
        self._mark_synced(stream)

    async def _page(self, stream: _Stream, token: str) -> Page:
        call = self._cluster.list(self.kind, stream.selection, limit=self._page_size, continue_token=token)
        return await within(self._clock, LIST_TIMEOUT, call)

    async def _take_page(self, stream: _Stream, page: Page, listed: set[Key]) -> None:
        pace = Pace(self._clock)
        for obj in page.items:
            listed.add(self._take(stream, obj, listed=True))
            await pace.step()

    async def _drop_all(self, stream: _Stream, keys: Iterable[Key]) -> None:
        pace = Pace(self._clock)
        for key in keys:
            self._drop(stream, key)
            await pace.step()

    async def _clear(self, stream: _Stream) -> None:
        """The kind is not, or no longer, installed: there are no objects of it."""
        stream.version = ""
        stream.failures = 0
        self.installed = False
        await self._drop_all(stream, list(stream.held))
        self._mark_synced(stream)

    def _mark_synced(self, stream: _Stream) -> None:
        stream.synced = True
        if all(each.synced for each in self._streams):
            self._synced.set()

    # Watching.

    async def _watch(self, stream: _Stream) -> None:
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 - spreads load, guards nothing
        await within(self._clock, seconds + WATCH_GRACE, self._consume(stream, seconds))

    async def _consume(self, stream: _Stream, seconds: int) -> None:
        events = self._cluster.watch(self.kind, stream.selection, resource_version=stream.version, seconds=seconds)
        pace = Pace(self._clock)
        try:
            async for event in events:
                self._take_event(stream, event)
                await pace.step()
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:  # an async generator: its connection ends now, not when it is collected
                await close()

    def _take_event(self, stream: _Stream, event: WatchEvent) -> None:
        if event.kind is EventKind.DELETED:
            self._drop(stream, _key(event.object))
        elif event.kind is not EventKind.BOOKMARK:
            self._take(stream, event.object, listed=False)
        stream.version = _version(event.object) or stream.version

    # One object.

    def _take(self, stream: _Stream, obj: Object, *, listed: bool) -> Key:
        """A list is the truth; of a watch, what a faster overlapping stream has already overtaken is passed over."""
        key, version = _key(obj), _version(obj)
        stream.held.add(key)
        seen = self._versions.get(key)
        if seen is None or (version != seen and (listed or not _is_older(version, seen))):
            self._versions[key] = version
            self._change(key, self._store(key, obj))
        return key

    def _store(self, key: Key, obj: Object) -> tuple[T | None, T | None]:
        """The object before and after. One that cannot be projected or indexed counts as absent."""
        old = self.store.get(key)
        try:
            new = self._project(obj)
            if new is not None:
                self.store.put(key, new)
        except Exception as error:  # noqa: BLE001 - one strange object must not blind us to all others
            self._refuse(key, error)
            new = None
        else:
            self._refused.discard(key)
        if new is None:
            self.store.remove(key)
        return old, new

    def _refuse(self, key: Key, error: Exception) -> None:
        if key not in self._refused:
            self._refused.add(key)
            reason = redact.text(f"{type(error).__name__}: {error}")
            log.error("object cannot be read, it is treated as absent", kind=str(self.kind), key=str(key), error=reason)

    def _drop(self, stream: _Stream, key: Key) -> None:
        stream.held.discard(key)
        if any(key in other.held for other in self._streams):
            return
        self._versions.pop(key, None)
        self._refused.discard(key)
        self._change(key, (self.store.remove(key), None))

    def _change(self, key: Key, change: tuple[T | None, T | None]) -> None:
        old, new = change
        if old is None and new is None:
            return
        for handler in self._handlers:
            try:
                handler(key, old, new)
            except Exception:
                log.exception("a change handler failed", kind=str(self.kind), key=str(key))


def _key(obj: Object) -> Key:
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def _version(obj: Object) -> str:
    version: str = obj["metadata"].get("resourceVersion", "")
    return version


def _is_older(version: str, seen: str) -> bool:
    """Versions of one kind are ordered as integers (Kubernetes KEP 5504); others are never called older."""
    return version.isdigit() and seen.isdigit() and int(version) < int(seen)
