"""The reconciler over a memory cluster, with the rest of the world played by hand: kubelet, Knative, time, death."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from knative_lambda.api import crd, kinds, meta
from knative_lambda.api.function import BuildStatus, LambdaFunction, Source, parse
from knative_lambda.api.meta import FIELD_MANAGER, Key, Kind
from knative_lambda.cluster.base import EVERYTHING, Cluster, Object, Page, Propagation, Selection, WatchEvent
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.events.base import Bus
from knative_lambda.events.front import FrontBus
from knative_lambda.events.memory import MemoryBus
from knative_lambda.kit.clock import Clock, SystemClock
from knative_lambda.machinery.informer import Informer
from knative_lambda.machinery.queue import WorkQueue
from knative_lambda.machinery.recorder import Recorder
from knative_lambda.machinery.runner import Requeue, Runner
from knative_lambda.machinery.store import Store
from knative_lambda.reconcile.freshness import Fresh
from knative_lambda.reconcile.handlers import Handlers
from knative_lambda.reconcile.loop import reconcile
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.world import CHILD_INDEXES, FUNCTION_INDEXES, World
from knative_lambda.resources import child, observed
from knative_lambda.sources.base import ANONYMOUS, Credentials, Resolution
from knative_lambda.sources.memory import MemorySources
from tests import gen

KNATIVE = (kinds.SERVICE, kinds.TRIGGER, kinds.BROKER)
HELLO = Key(gen.NAMESPACE, "hello")
BUILDS = Selection(labels=child.BUILD_SELECTOR)
CHILDREN = (kinds.JOB, kinds.POD, kinds.TRIGGER)
PROJECTIONS: dict[Kind, Callable[[Object], Any]] = {
    kinds.LAMBDA_FUNCTION: observed.project_function,
    kinds.JOB: observed.project_job,
    kinds.POD: observed.project_pod,
    kinds.SERVICE: observed.project_service,
    kinds.TRIGGER: observed.project_trigger,
    kinds.BROKER: observed.project_broker,
}


class Died(BaseException):
    """The process is gone: nothing in it may catch this."""


def memory_cluster(clock: Clock) -> MemoryCluster:
    return MemoryCluster(clock=clock, definitions=crd.definitions(), kinds=KNATIVE)


class RecordingSources(MemorySources):
    """Keeps the credentials that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Credentials] = []
        self.push(gen.URL, gen.COMMIT, ref="main")

    async def resolve(self, source: Source, credentials: Credentials = ANONYMOUS) -> Resolution:
        self.given.append(credentials)
        return await super().resolve(source, credentials)


class Mortal:
    """A cluster or a bus seen by one process: counts its writes, and ends the process at one of them."""

    def __init__(self, dies_at: int | None = None, *, after: bool = True) -> None:
        self.dies_at = dies_at
        self.after = after
        self.writes: list[str] = []

    async def write(self, what: str, call: Any) -> Any:
        self.writes.append(what)
        dying = self.dies_at is not None and len(self.writes) == self.dies_at
        if dying and not self.after:
            call.close()
            raise Died
        answer = await call
        if dying:
            raise Died
        return answer


class WatchedCluster:
    """The cluster as the controller uses it."""

    def __init__(self, cluster: Cluster, life: Mortal) -> None:
        self._cluster = cluster
        self._life = life
        self.reads: list[str] = []

    async def get(self, kind: Kind, key: Key) -> Object:
        self.reads.append(f"get {kind.kind}")
        return await self._cluster.get(kind, key)

    async def list(
        self, kind: Kind, selection: Selection = EVERYTHING, *, limit: int = 500, continue_token: str = ""
    ) -> Page:
        return await self._cluster.list(kind, selection, limit=limit, continue_token=continue_token)

    def watch(
        self, kind: Kind, selection: Selection = EVERYTHING, *, resource_version: str, seconds: int = 300
    ) -> AsyncIterator[WatchEvent]:
        return self._cluster.watch(kind, selection, resource_version=resource_version, seconds=seconds)

    async def create(self, kind: Kind, obj: Object) -> Object:
        made: Object = await self._life.write(f"create {kind.kind}", self._cluster.create(kind, obj))
        return made

    async def apply(self, kind: Kind, obj: Object, *, manager: str = FIELD_MANAGER, force: bool = True) -> Object:
        call = self._cluster.apply(kind, obj, manager=manager, force=force)
        made: Object = await self._life.write(f"apply {kind.kind}", call)
        return made

    async def patch(self, kind: Kind, key: Key, patch: Object, *, subresource: str = "") -> Object:
        what = "status" if subresource else "finalizers"
        made: Object = await self._life.write(what, self._cluster.patch(kind, key, patch, subresource=subresource))
        return made

    async def replace(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        made: Object = await self._life.write("replace", self._cluster.replace(kind, obj, subresource=subresource))
        return made

    async def delete(
        self, kind: Kind, key: Key, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        call = self._cluster.delete(kind, key, uid=uid, propagation=propagation)
        await self._life.write(f"delete {kind.kind}", call)

    async def served(self, kind: Kind) -> bool:
        return await self._cluster.served(kind)

    async def close(self) -> None:
        """The cluster outlives the controller."""


class WatchedBus(FrontBus):
    """The bus as the controller uses it; a publish is a write that a process can die at, too."""

    def __init__(self, bus: Bus, life: Mortal) -> None:
        super().__init__(bus)
        self._life = life

    async def publish(self, events: Any) -> Any:
        return await self._life.write("publish", super().publish(events))

    async def start(self) -> None:
        """The bus is there."""

    async def close(self) -> None:
        """It outlives the controller."""


class Controller:
    """One process of the controller: its caches are empty at the start and live no longer than it."""

    def __init__(
        self,
        cluster: MemoryCluster,
        bus: MemoryBus,
        *,
        clock: Clock,
        sources: RecordingSources | None = None,
        settings: ReconcileSettings = gen.SETTINGS,
        life: Mortal | None = None,
    ) -> None:
        self.life = life or Mortal()
        self.seen = WatchedCluster(cluster, self.life)
        self.sources = sources or RecordingSources()
        self.recorder = Recorder(cluster, clock=clock, instance="test")
        self._clock = clock
        self.informers = {kind: self._informer(kind) for kind in PROJECTIONS}
        stores = {kind: Fresh(informer.store, clock=clock) for kind, informer in self.informers.items()}
        self.world = World(
            cluster=self.seen,
            sources=self.sources,
            bus=WatchedBus(bus, self.life),
            recorder=self.recorder,
            clock=clock,
            settings=settings,
            functions=stores[kinds.LAMBDA_FUNCTION],
            jobs=stores[kinds.JOB],
            pods=stores[kinds.POD],
            services=stores[kinds.SERVICE],
            triggers=stores[kinds.TRIGGER],
            brokers=stores[kinds.BROKER],
        )

    def _informer(self, kind: Kind) -> Informer[Any]:
        selection = BUILDS if kind in (kinds.JOB, kinds.POD) else EVERYTHING
        indexes = {kinds.LAMBDA_FUNCTION: FUNCTION_INDEXES}.get(kind, CHILD_INDEXES if kind in CHILDREN else None)
        return Informer(self.seen, kind, PROJECTIONS[kind], clock=self._clock, selections=(selection,), indexes=indexes)

    # By hand: one reconcile at a time, on caches that are listed anew.

    async def sync(self) -> None:
        """Makes the caches what the cluster has, as after a restart."""
        for kind, informer in self.informers.items():
            selection = BUILDS if kind in (kinds.JOB, kinds.POD) else EVERYTHING
            page = await self.seen.list(kind, selection)
            store: Store[Any] = informer.store
            seen = [informer._project(obj) for obj in page.items]
            listed = {one.key: one for one in seen if one is not None}
            for gone in set(store.keys()) - set(listed):
                store.remove(gone)
            for key, one in listed.items():
                store.put(key, one)

    async def reconcile(self, key: Key = HELLO) -> Requeue | None:
        """One pass, on caches that are up to date."""
        await self.sync()
        return await reconcile(key, self.world)

    async def settle(self, key: Key = HELLO, *, passes: int = 12) -> None:
        """Passes until one writes nothing."""
        for _ in range(passes):
            before = len(self.life.writes)
            await self.reconcile(key)
            if len(self.life.writes) == before:
                return
        raise AssertionError(f"still writing after {passes} passes: {self.life.writes}")

    # As in production: informers, handlers, queue, runner.

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Controller]:
        queue: WorkQueue[Key] = WorkQueue(clock=self._clock)
        handlers = Handlers(self.world, self.informers[kinds.LAMBDA_FUNCTION].store, queue.add)
        told: dict[Kind, Callable[[Key, Any, Any], None]] = {
            kinds.LAMBDA_FUNCTION: handlers.function,
            kinds.JOB: handlers.job,
            kinds.POD: handlers.pod,
            kinds.SERVICE: handlers.service,
            kinds.TRIGGER: handlers.trigger,
            kinds.BROKER: handlers.broker,
        }
        for kind, handler in told.items():
            self.informers[kind].on_change(handler)
        runner = Runner("functions", queue, lambda key: reconcile(key, self.world), clock=self._clock, grace=0.1)
        tasks = [asyncio.create_task(informer.run()) for informer in self.informers.values()]
        for informer in self.informers.values():
            await informer.wait_synced()
        tasks.append(asyncio.create_task(runner.run()))
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            queue.close()


class Stage:
    """The cluster and everybody in it but the controller."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.cluster = memory_cluster(self.clock)
        self.bus = MemoryBus()

    def controller(self, **more: Any) -> Controller:
        return Controller(self.cluster, self.bus, clock=self.clock, **more)

    async def create(self, *parts: gen.Part, name: str = "hello") -> None:
        raw = gen.raw_function(name, *parts)
        wanted = {"name": name, "namespace": gen.NAMESPACE, "annotations": raw["metadata"]["annotations"]}
        if raw["metadata"]["finalizers"]:
            wanted["finalizers"] = raw["metadata"]["finalizers"]
        await self.cluster.create(kinds.LAMBDA_FUNCTION, {**raw, "metadata": wanted})

    async def change(self, **spec: Any) -> None:
        await self.cluster.patch(kinds.LAMBDA_FUNCTION, HELLO, {"spec": spec})

    async def annotate(self, name: str, value: str) -> None:
        await self.cluster.patch(kinds.LAMBDA_FUNCTION, HELLO, {"metadata": {"annotations": {name: value}}})

    async def function(self, key: Key = HELLO) -> LambdaFunction:
        return parse(await self.cluster.get(kinds.LAMBDA_FUNCTION, key))

    async def build(self) -> BuildStatus:
        """status.buildStatus."""
        found = (await self.function()).status.build_status
        assert found is not None
        return found

    async def condition(self, kind: str = "Ready") -> tuple[str, str]:
        rows = {row.type: row for row in (await self.function()).status.conditions}
        return rows[kind].status.value, rows[kind].reason

    async def all(self, kind: Kind) -> list[Object]:
        return (await self.cluster.list(kind)).items

    async def finish_jobs(self, image_digest: str = gen.IMAGE_DIGEST) -> None:
        """A kubelet runs every unfinished Job to its end."""
        for job in await self.all(kinds.JOB):
            if not job.get("status", {}).get("conditions"):
                await self._run(job, 0, image_digest, {"type": "Complete", "status": "True"})

    async def fail_jobs(self, log: str = "no such module", reason: str = "BackoffLimitExceeded") -> None:
        for job in await self.all(kinds.JOB):
            if not job.get("status", {}).get("conditions"):
                row = {"type": "Failed", "status": "True", "reason": reason, "message": "failed"}
                await self._run(job, 1, log, row)

    async def _run(self, job: Object, exit_code: int, message: str, condition: Object) -> None:
        metadata = job["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": key.name, "uid": metadata["uid"], "controller": True}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{key.name}-pod",
                "namespace": key.namespace,
                "labels": job["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [owner],
            },
            "spec": {},
        }
        await self.cluster.create(kinds.POD, pod)
        ended = {"name": "kaniko", "state": {"terminated": {"exitCode": exit_code, "message": message}}}
        pod_key = Key(key.namespace, f"{key.name}-pod")
        await self.cluster.patch(kinds.POD, pod_key, {"status": {"containerStatuses": [ended]}}, subresource="status")
        row = {**condition, "lastTransitionTime": meta.timestamp(self.clock.now())}
        await self.cluster.patch(kinds.JOB, key, {"status": {"conditions": [row]}}, subresource="status")

    async def serve(self) -> None:
        """Knative brings up every Service and connects every Trigger."""
        for kind in (kinds.SERVICE, kinds.TRIGGER):
            for obj in await self.all(kind):
                metadata = obj["metadata"]
                status = gen.ready_status(generation=metadata["generation"])
                key = Key(metadata["namespace"], metadata["name"])
                await self.cluster.patch(kind, key, {"status": status}, subresource="status")

    async def broker(self, name: str = "default") -> None:
        metadata = {"name": name, "namespace": gen.NAMESPACE}
        broker = {"apiVersion": kinds.BROKER.api_version, "kind": "Broker", "metadata": metadata, "spec": {}}
        await self.cluster.create(kinds.BROKER, broker)
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        await self.cluster.patch(kinds.BROKER, Key(gen.NAMESPACE, name), {"status": status}, subresource="status")

    def told(self) -> dict[str, set[str]]:
        """Event type -> ids that were published."""
        found: dict[str, set[str]] = {}
        for event in self.bus.published:
            found.setdefault(event.type, set()).add(event.id)
        return found


async def until(check: Callable[[], Any], *, seconds: float = 5.0) -> None:
    """Waits for a condition, which may be a coroutine function; fails loudly."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = check()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"did not come true within {seconds} s: {check}")
        await asyncio.sleep(0.005)
