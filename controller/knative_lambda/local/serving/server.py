"""Plays Knative Serving for local mode: Knative Services in, processes and statuses out. Made by dev.

Level-triggered like the other controllers: an informer tells which Service changed, one reconcile brings its revisions
and its status to what they should be. A new template is a new revision, which gets the requests once an instance of it
listens; until then, and when it never does, the former one goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
from starlette.routing import BaseRoute

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Cluster, NotFound
from knative_lambda.kit.clock import Clock
from knative_lambda.local import conditions
from knative_lambda.local.building.images import LocalImage
from knative_lambda.local.serving import appetite, processes, revisions, serving_status
from knative_lambda.local.serving.forwarding import Forwarder, Reply, Request, as_mapping, passed_on
from knative_lambda.local.serving.instance import Instance, Revision, Starter
from knative_lambda.local.serving.pool import Pool
from knative_lambda.local.serving.revisions import Template, Wanted
from knative_lambda.local.serving.router import FunctionRoute
from knative_lambda.local.serving.serving_options import ServerOptions
from knative_lambda.local.serving.serving_status import Standing
from knative_lambda.machinery.informer import Informer
from knative_lambda.machinery.process import Service
from knative_lambda.machinery.queue import WorkQueue
from knative_lambda.machinery.runner import Requeue, Runner

__all__ = ["Answer", "ProcessServer", "Replicas", "ServerOptions"]

WORKERS = 16
SOONEST_RETRY = 0.2
"""Seconds."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What `call` gives back; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Replicas:
    """Instances of one function, for the live table."""

    running: int
    starting: int
    waiting: int
    """Requests that have no instance yet."""


@dataclass(slots=True)
class _Served:
    """One Knative Service that is there."""

    uid: str
    number: int = 0
    """Of the newest revision."""
    identity: str = ""
    """Of the newest revision's template."""
    newest: Pool | None = None
    current: Pool | None = None
    """The one that answers: the newest that ever became ready."""
    problem: str = ""
    """Why there is no revision for what is asked."""


@dataclass(slots=True)
class _Ending:
    """Pools that are on their way out."""

    tasks: dict[asyncio.Task[None], str] = field(default_factory=dict)
    """With the image that each one's processes run."""

    def begin(self, pool: Pool) -> None:
        task = asyncio.create_task(pool.close())
        self.tasks[task] = pool.revision.template.image
        task.add_done_callback(self.tasks.pop)

    async def wait(self) -> None:
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)


class ProcessServer:
    """Runs functions as processes of this machine."""

    def __init__(
        self,
        cluster: Cluster,
        find: Callable[[str], LocalImage | None],
        *,
        clock: Clock,
        state: Path,
        options: ServerOptions,
        remark: Callable[[str], None] = lambda _words: None,
    ) -> None:
        """`find` gives the image of a reference; `state` is a folder that belongs to this program.

        `remark` is told what a person should know of all functions, in the loop's thread.
        """
        self._cluster = cluster
        self._clock = clock
        self._options = options
        self._state = state.absolute()
        self._starter = Starter(cluster, find, state=self._state, options=options, remark=remark)
        self._forwarder = Forwarder(options)
        self._informer: Informer[Wanted] = Informer(cluster, kinds.SERVICE, revisions.project, clock=clock)
        self._queue: WorkQueue[Key] = WorkQueue(clock=clock)
        self._runner = Runner("process server", self._queue, self._reconcile, clock=clock, workers=WORKERS, grace=2.0)
        self._served: dict[Key, _Served] = {}
        self._ending = _Ending()
        self._watch = appetite.Watch()
        self._informer.on_change(lambda key, _old, _new: self._queue.add(key))

    # ---- for dev and the broker ----

    async def call(self, service: Key, headers: Mapping[str, str], body: bytes) -> Answer:
        """POSTs to a function as the listener would, and waits for a cold start; raises nothing."""
        given = [*passed_on(headers.items()), ("host", self.host(service))]
        reply = await self._forward(service, Request("POST", "/", given, body))
        return Answer(reply.status, as_mapping(reply.headers), reply.body)

    def routes(self) -> list[BaseRoute]:
        """By Host and by path; to be mounted before all others, for a function may have any path under its Host."""
        return [FunctionRoute(self._forward, self._options)]

    def services(self) -> list[Service]:
        """What runs, in one stage. Ends every process at its end."""
        patience = self._options.drain_seconds + self._options.stop_seconds + 10.0
        return [Service("process server", self.run, drain=self.close, patience=patience)]

    def host(self, service: Key) -> str:
        return f"{service.name}.{service.namespace}.localhost:{self._options.port}"

    def replicas(self, service: Key) -> Replicas:
        """All zero for a Service that is not known."""
        served = self._served.get(service)
        pools = {id(pool): pool for pool in (served.current, served.newest) if pool} if served else {}
        count: Counter[str] = Counter()
        for pool in pools.values():
            count.update(running=len(pool.instances), starting=pool.starting, waiting=pool.waiting)
        return Replicas(count["running"], count["starting"], count["waiting"])

    def images(self) -> set[str]:
        """References of all that runs or may start any moment, also of revisions that the Services no longer name."""
        pools = [pool for served in self._served.values() for pool in (served.current, served.newest) if pool]
        return {pool.revision.template.image for pool in pools} | set(self._ending.tasks.values())

    def log_folder(self, service: Key) -> Path:
        """Holds one file per instance, REVISION-XXXXX.log, and its older part with .1 behind that."""
        return self._state / "logs" / service.namespace / service.name

    # ---- running ----

    async def run(self) -> None:
        """Until cancelled. Raises OSError when another program has functions under the same state."""
        folder = self._state / "instances"
        claim = await asyncio.to_thread(processes.claim, folder)
        try:
            ended = await asyncio.to_thread(processes.end_left_over, folder)
            if ended:
                log.warning("ended processes that a former run had left", count=ended)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._informer.run(), name="informer of Knative Services")
                group.create_task(self._run_when_synced(), name="process server")
                group.create_task(self._watch_load(), name="autoscaler")
                group.create_task(self._watch_files(), name="watch over files")
        finally:
            try:
                await self._end_all()
            finally:
                os.close(claim)

    async def close(self) -> None:
        """After `run`: waits for the last process."""
        await self._ending.wait()
        self._forwarder.close()

    async def _run_when_synced(self) -> None:
        await self._informer.wait_synced()
        await self._runner.run()

    async def _end_all(self) -> None:
        for served in self._served.values():
            self._end(served)
        await asyncio.shield(self._ending.wait())
        self._forwarder.close()

    async def _forward(self, service: Key, request: Request) -> Reply:
        return await self._forwarder.forward(partial(self._pool, service), request)

    def _pool(self, service: Key) -> Pool | None:
        """The first revision gets requests before it is ready: they wait for it."""
        served = self._served.get(service)
        return (served.current or served.newest) if served else None

    # ---- one Service ----

    async def _reconcile(self, key: Key) -> Requeue | None:
        wanted, served = self._informer.store.get(key), self._served.get(key)
        if served is not None and (wanted is None or wanted.uid != served.uid):
            self._end(self._served.pop(key))
            served = None
        if wanted is None:
            return None
        if served is None:
            served = self._served[key] = _Served(wanted.uid)
        self._renew(wanted, served)
        self._promote(served)
        await self._tell(wanted, served)
        return self._try_again(served)

    def _renew(self, wanted: Wanted, served: _Served) -> None:
        """Another template is another revision; the one before, if it never became ready, ends."""
        served.problem = wanted.problem
        identity = wanted.template.identity if wanted.template else ""
        if identity == served.identity:
            return
        served.identity = identity
        if served.newest is not None and served.newest is not served.current:
            self._ending.begin(served.newest)
        served.newest = None
        if wanted.template is not None:
            served.number = max(served.number, _last_number(wanted)) + 1
            served.newest = self._made(wanted.key, served.number, wanted.template)
            served.newest.prove()

    def _made(self, key: Key, number: int, template: Template) -> Pool:
        revision = Revision(key, f"{key.name}-{number:05d}", template)
        on_change = partial(self._queue.add, key)
        return Pool(revision, self._starter, clock=self._clock, options=self._options, on_change=on_change)

    def _promote(self, served: _Served) -> None:
        """Requests go to the newest revision from here on; those that wait follow."""
        newest, former = served.newest, served.current
        if newest is None or newest is former or not newest.proven:
            return
        served.current = newest
        if former is not None:
            self._ending.begin(former)

    async def _tell(self, wanted: Wanted, served: _Served) -> None:
        written = serving_status.status(self._standing(wanted, served), wanted.status, now=self._clock.now())
        if not conditions.differs(written, wanted.status):
            return
        patch = {"metadata": {"uid": wanted.uid}, "status": written}
        try:
            await self._cluster.patch(kinds.SERVICE, wanted.key, patch, subresource="status")
        except NotFound:
            log.debug("a Service was deleted before its status was written", service=str(wanted.key))

    def _standing(self, wanted: Wanted, served: _Served) -> Standing:
        newest, current = served.newest, served.current
        created = newest.revision.name if newest else f"{wanted.key.name}-{served.number + 1:05d}"
        return Standing(
            key=wanted.key,
            generation=wanted.generation,
            url=f"http://{self.host(wanted.key)}",
            created=created,
            ready=current.revision.name if current else "",
            answers=current is not None and not (current is newest and current.failure),
            failure=(newest.failure if newest else served.problem).rstrip("."),
        )

    def _try_again(self, served: _Served) -> Requeue | None:
        """Failing starts are repeated, ever more rarely: a Secret may come, a database answer."""
        newest = served.newest
        if newest is None or not newest.failure:
            return None
        if newest.retry_in == 0:
            newest.prove()
        return Requeue(max(newest.retry_in, SOONEST_RETRY))

    def _end(self, served: _Served) -> None:
        for pool in {id(pool): pool for pool in (served.newest, served.current) if pool}.values():
            self._ending.begin(pool)

    # ---- all of them ----

    async def _watch_load(self) -> None:
        while True:
            await self._clock.sleep(self._options.look_seconds)
            for served in list(self._served.values()):
                if served.current is not None:
                    served.current.tick()
            await self._watch_appetite()

    async def _watch_appetite(self) -> None:
        """Ends instances that take more memory and tasks than they may."""
        running = dict(self._starter.running)
        if running:
            bounds = {pid: one.limits for pid, one in running.items()}
            for pid, verdict in (await asyncio.to_thread(self._watch.verdicts, bounds)).items():
                self._condemn(running[pid], verdict)

    async def _watch_files(self) -> None:
        """A task of its own: many files, or a slow disk, hold up neither scaling nor the watch over memory."""
        took = 0.0
        while True:
            await self._clock.sleep(appetite.rest(took, least=self._options.look_seconds))
            began = self._clock.monotonic()
            for instance in list(self._starter.running.values()):
                verdict = await asyncio.to_thread(appetite.excess, instance.place.folder, instance.limits)
                if verdict:
                    self._condemn(instance, verdict)
            took = self._clock.monotonic() - began

    def _condemn(self, instance: Instance, verdict: str) -> None:
        """Unless it is over already."""
        if not instance.verdict and self._starter.running.get(instance.child.pid) is instance:
            instance.condemn(verdict)


def _last_number(wanted: Wanted) -> int:
    """Numbers go on where a former process of ours left off."""
    number = str(wanted.status.get("latestCreatedRevisionName", "")).rpartition("-")[2]
    return int(number) if number.isdigit() else 0
