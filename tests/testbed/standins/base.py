"""What all stand-ins share: an asyncio thread, a watch per kind, and a queue of objects to look at again.

Level-triggered like the real controllers: whatever happened, `look` gets the newest object and writes its
status if it is not yet as it should be. Called by kubelet and knative.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fnmatch
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import aiohttp
import orjson
import yaml

from tests.testbed.errors import BedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Object = dict[str, Any]
Outcome = TypeVar("Outcome")

_WORKERS = 16
_WATCH_SECONDS = 240
_LONGEST_LINE = 8 << 20  # bytes of one watch event


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind to watch: `path` is its group and version (`/apis/batch/v1`), `plural` its resource name."""

    path: str
    plural: str
    selector: str = ""

    def url(self, namespace: str, name: str) -> str:
        """Path of one object."""
        return f"{self.path}/namespaces/{namespace}/{self.plural}/{name}"


@dataclass(frozen=True, slots=True)
class Key:
    """One object: its kind, namespace and name."""

    kind: Kind
    namespace: str
    name: str


class Outcomes(Generic[Outcome]):
    """What shall become of which object: patterns over `namespace/name`, the one set last wins.

    With several outcomes, the first attempt meets the first, the second the second, and the last one stays.
    """

    def __init__(self, default: Outcome) -> None:
        self._default = default
        self._set: list[tuple[str, tuple[Outcome, ...]]] = []

    def set(self, pattern: str, *outcomes: Outcome) -> None:
        """Decide for all objects whose `namespace/name` matches the shell pattern."""
        self._set.insert(0, (pattern, outcomes))

    def clear(self) -> None:
        """Back to the default for everything."""
        self._set.clear()

    def of(self, namespace: str, name: str, attempt: int = 0) -> Outcome:
        """The outcome of one object's attempt, counted from 0."""
        for pattern, outcomes in self._set:
            if fnmatch.fnmatchcase(f"{namespace}/{name}", pattern):
                return outcomes[min(attempt, len(outcomes) - 1)]
        return self._default


class StandIn:
    """A thread with an event loop that watches `kinds` and calls `look` for whatever changed.

    Subclasses give `kinds` and `look`. `errors` collects what went wrong and was tried again.
    """

    kinds: Sequence[Kind] = ()

    def __init__(self, *, kubeconfig: Path, workers: int = _WORKERS) -> None:
        self.errors: list[str] = []
        self.cache: dict[Key, Object] = {}
        self._kubeconfig = kubeconfig
        self._workers = workers
        self._thread = threading.Thread(target=self._run, name=type(self).__name__.lower(), daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._busy: set[Key] = set()

    async def look(self, key: Key, found: Object | None) -> None:
        """Bring one object's status to what it should be; `found` is None when it is gone."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the thread and wait until every kind was listed once."""
        self._thread.start()
        self._started.wait(timeout=30)
        if self._failure is not None:
            raise BedError(f"{self._thread.name} did not start: {self._failure!r}")

    def stop(self) -> None:
        """Stop watching and end the thread. May be called twice."""
        if self._loop is not None and self._main is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop closed between the check and the call
                self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(timeout=10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- for subclasses, in the loop ----

    def again(self, key: Key) -> None:
        """Look at an object again, soon and not twice at once."""
        if key in self._queued:
            return
        self._queued.add(key)
        self._queue.put_nowait(key)

    async def patch_status(self, key: Key, status: Object) -> Object | None:
        """Merge into the status; returns the object as it is then, None when it is gone."""
        url = f"{key.kind.url(key.namespace, key.name)}/status"
        body = orjson.dumps({"status": status})
        headers = {"Content-Type": "application/merge-patch+json"}
        assert self._session is not None
        async with self._session.patch(url, data=body, headers=headers) as response:
            answer = await response.read()
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise BedError(f"PATCH {url}: {response.status} {answer[:500]!r}")
        changed: Object = orjson.loads(answer)
        if key in self.cache:  # or the next look would see what was before this write
            self.cache[key] = _newer(self.cache[key], _slim(changed))
        return changed

    # ---- the loop ----

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            self._loop = None  # stop() asked for it
        except BaseException as error:  # noqa: BLE001 - handed to start(), which raises it in the caller's thread
            self._failure = error
        finally:
            self._started.set()

    async def _live(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        base, token, tls = _credentials(self._kubeconfig)
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        session = aiohttp.ClientSession(
            base_url=base,
            connector=connector,
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=60),
            read_bufsize=_LONGEST_LINE,
        )
        try:
            await self._serve(session)
        finally:
            await asyncio.sleep(0.05)  # TLS connections close in the loop's next rounds, not at once

    async def _serve(self, session: aiohttp.ClientSession) -> None:
        async with session as self._session:
            versions = [await self._list(kind) for kind in self.kinds]
            self._started.set()
            async with asyncio.TaskGroup() as group:
                for kind, version in zip(self.kinds, versions, strict=True):
                    group.create_task(self._follow(kind, version))
                for _ in range(self._workers):
                    group.create_task(self._work())

    async def _list(self, kind: Kind) -> str:
        """Fill the cache with all objects of a kind, notice those that are gone; returns the version."""
        assert self._session is not None
        query = {"labelSelector": kind.selector} if kind.selector else {}
        async with self._session.get(f"{kind.path}/{kind.plural}", params=query) as response:
            answer = await response.read()
            if response.status != HTTPStatus.OK:
                raise BedError(f"LIST {kind.plural}: {response.status} {answer[:500]!r}")
        listed = orjson.loads(answer)
        seen = {self._remember(kind, one) for one in listed["items"]}
        for key in [key for key in self.cache if key.kind == kind and key not in seen]:
            self._forget(key)
        version: str = listed["metadata"]["resourceVersion"]
        return version

    async def _follow(self, kind: Kind, version: str) -> None:
        while True:
            try:
                version = await self._watch(kind, version) or await self._list(kind)
            except (aiohttp.ClientError, BedError, OSError, TimeoutError) as error:
                self.errors.append(f"watch of {kind.plural}: {error!r}")
                await asyncio.sleep(0.2)

    async def _watch(self, kind: Kind, version: str) -> str:
        """Take events until the server ends the watch; returns where to go on, empty when that is lost."""
        assert self._session is not None
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS)}
        query |= {"allowWatchBookmarks": "true"}
        query |= {"labelSelector": kind.selector} if kind.selector else {}
        timeout = aiohttp.ClientTimeout(total=_WATCH_SECONDS + 30)
        async with self._session.get(f"{kind.path}/{kind.plural}", params=query, timeout=timeout) as response:
            if response.status != HTTPStatus.OK:
                return ""
            async for line in response.content:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    return ""
                version = event["object"]["metadata"]["resourceVersion"]
                self._take(kind, event["type"], event["object"])
        return version

    def _take(self, kind: Kind, what: str, found: Object) -> None:
        if what == "DELETED":
            self._forget(Key(kind, found["metadata"]["namespace"], found["metadata"]["name"]))
        elif what != "BOOKMARK":
            self._remember(kind, found)

    def _remember(self, kind: Kind, found: Object) -> Key:
        key = Key(kind, found["metadata"]["namespace"], found["metadata"]["name"])
        self.cache[key] = _newer(self.cache.get(key), _slim(found))
        self.again(key)
        return key

    def _forget(self, key: Key) -> None:
        self.cache.pop(key, None)
        self.again(key)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._queued.discard(key)
            if key in self._busy:
                await asyncio.sleep(0.005)
                self.again(key)
                continue
            self._busy.add(key)
            try:
                await self.look(key, self.cache.get(key))
            except (aiohttp.ClientError, BedError, OSError, TimeoutError) as error:
                self.errors.append(f"{key.kind.plural} {key.namespace}/{key.name}: {error!r}")
                await asyncio.sleep(0.2)
                self.again(key)
            finally:
                self._busy.discard(key)


def now() -> str:
    """This second, as Kubernetes writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    """One status condition without its transition time, which `stamped` adds."""
    told = {"type": kind, "status": status, "reason": reason, "message": message}
    return {name: value for name, value in told.items() if value}


def stamped(conditions: Sequence[Object], before: Sequence[Object]) -> list[Object]:
    """Conditions with transition times, kept from `before` where the status is the same."""
    known = {(one["type"], one["status"]): one.get("lastTransitionTime") for one in before}
    return [{**one, "lastTransitionTime": known.get((one["type"], one["status"])) or now()} for one in conditions]


def _slim(found: Object) -> Object:
    found["metadata"].pop("managedFields", None)
    return found


def _newer(known: Object | None, found: Object) -> Object:
    """The later of two states of one object; etcd gives versions in one order."""
    if known and int(known["metadata"]["resourceVersion"]) > int(found["metadata"]["resourceVersion"]):
        return known
    return found


def _credentials(kubeconfig: Path) -> tuple[str, str, ssl.SSLContext]:
    """Server, token and TLS of a kubeconfig's first cluster and user, as the test bed writes it."""
    config = yaml.load(kubeconfig.read_text(), yaml.CSafeLoader)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return cluster["server"], user["token"], ssl.create_default_context(cadata=authority)
