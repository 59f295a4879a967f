"""A memory cluster, real informers and a memory remote: what a sync runs on, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from knative_lambda.api import conditions, crd, kinds, meta
from knative_lambda.api.conditions import Condition, ConditionType
from knative_lambda.api.meta import Key
from knative_lambda.api.repository import FunctionRepository, RepositoryStatus
from knative_lambda.api.repository import parse as parse_repository
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.gitsync import handlers, loop
from knative_lambda.gitsync.memory import Link, MemoryCheckout
from knative_lambda.gitsync.observed import REPOSITORY_INDEX, RepositorySeen, by_repository, project_repository
from knative_lambda.gitsync.requests import SyncRequests
from knative_lambda.gitsync.world import SyncSettings, SyncWorld
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.informer import Informer
from knative_lambda.machinery.recorder import Regarding
from knative_lambda.machinery.runner import Requeue
from knative_lambda.resources.observed import FunctionSeen, project_function

URL = "https://git.example.com/team/functions.git"
KEY = Key("team", "functions")
Object = dict[str, Any]


def function_yaml(extra: str = "", *, language: str = "python") -> str:
    """A minimal function.yaml; `extra` are further lines of spec."""
    return f"spec:\n  runtime:\n    language: {language}\n{extra}"


def function_files(*names: str, extra: str = "", code: str = "def handler(event): ...\n") -> dict[str, str | Link]:
    """Directories functions/<name>/ of a python function each."""
    files: dict[str, str | Link] = {}
    for name in names:
        files[f"functions/{name}/function.yaml"] = function_yaml(extra)
        files[f"functions/{name}/main.py"] = code
    return files


@dataclass
class Notices:
    """A recorder that keeps what it is told."""

    told: list[tuple[str, str, str]] = field(default_factory=list)

    def record(
        self, regarding: Regarding, *, type: Literal["Normal", "Warning"], reason: str, note: str, action: str
    ) -> None:
        assert regarding.uid
        assert action
        self.told.append((type, reason, note))


class Stage:
    """Everything around `loop.sync`. Handlers are connected as wiring connects them."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.cluster = MemoryCluster(clock=self.clock, definitions=crd.definitions())
        self.checkout = MemoryCheckout()
        self.notices = Notices()
        self.asked: list[Key] = []
        """Keys that handlers put into the queue."""
        self.functions: Informer[FunctionSeen] = Informer(
            self.cluster,
            kinds.LAMBDA_FUNCTION,
            project_function,
            clock=self.clock,
            indexes={REPOSITORY_INDEX: by_repository},
        )
        self.repositories: Informer[RepositorySeen] = Informer(
            self.cluster, kinds.FUNCTION_REPOSITORY, project_repository, clock=self.clock
        )
        self.functions.on_change(lambda _, old, new: self.asked.extend(handlers.function_changed(old, new)))
        self.repositories.on_change(lambda _, old, new: self.asked.extend(handlers.repository_changed(old, new)))
        self.world = self._world(SyncSettings(**settings))

    def _world(self, settings: SyncSettings) -> SyncWorld:
        return SyncWorld(
            cluster=self.cluster,
            clock=self.clock,
            repositories=self.repositories.store,
            functions=self.functions.store,
            checkout=self.checkout,
            requests=SyncRequests(self.asked.append),
            recorder=self.notices,
            settings=settings,
        )

    def restart(self) -> None:
        """A new process: what was remembered is gone, the cluster stays."""
        self.world = self._world(self.world.settings)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Stage]:
        tasks = [asyncio.create_task(informer.run()) for informer in (self.functions, self.repositories)]
        try:
            await self.functions.wait_synced()
            await self.repositories.wait_synced()
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self) -> None:
        """Until the caches show what the cluster holds."""
        for informer in (self.functions, self.repositories):
            page = await self.cluster.list(informer.kind, limit=100_000)
            wanted = {_identity(obj) for obj in page.items}
            for _ in range(10_000):
                if {(one.key, one.resource_version) for one in informer.store.values()} == wanted:
                    break
                await asyncio.sleep(0)
            else:
                raise AssertionError("the cache does not follow")

    async def repository(self, **spec: Any) -> None:
        obj = {
            "apiVersion": meta.API_VERSION,
            "kind": "FunctionRepository",
            "metadata": {"namespace": KEY.namespace, "name": KEY.name},
            "spec": {"url": URL, "ref": {"branch": "main"}, "path": "functions", **spec},
        }
        await self.cluster.create(kinds.FUNCTION_REPOSITORY, obj)
        await self.settle()

    async def change_repository(self, patch: Object) -> None:
        await self.cluster.patch(kinds.FUNCTION_REPOSITORY, KEY, patch)
        await self.settle()

    async def sync(self) -> Requeue | None:
        """One look; afterwards the caches are up to date."""
        again = await loop.sync(KEY, self.world)
        await self.settle()
        return again

    async def push_and_sync(self, files: dict[str, Any]) -> str:
        commit = self.checkout.push(URL, files)
        self.world.requests.mark(KEY)
        await self.sync()
        return commit

    async def repo(self) -> FunctionRepository:
        return parse_repository(await self.cluster.get(kinds.FUNCTION_REPOSITORY, KEY))

    async def condition(self, kind: ConditionType) -> Condition | None:
        obj = await self.cluster.get(kinds.FUNCTION_REPOSITORY, KEY)
        return conditions.find(RepositoryStatus.model_validate(obj.get("status", {})).conditions, kind)

    async def reason(self, kind: ConditionType) -> str:
        """Status/Reason of a condition, or nothing."""
        row = await self.condition(kind)
        return f"{row.status}/{row.reason}" if row else ""

    async def names(self) -> list[str]:
        page = await self.cluster.list(kinds.LAMBDA_FUNCTION, limit=100_000)
        return sorted(obj["metadata"]["name"] for obj in page.items)

    async def function(self, name: str) -> Object:
        return await self.cluster.get(kinds.LAMBDA_FUNCTION, Key(KEY.namespace, name))

    async def remove_finalizers(self, name: str) -> None:
        """What reconciling does when a function has ended."""
        await self.cluster.patch(kinds.LAMBDA_FUNCTION, Key(KEY.namespace, name), {"metadata": {"finalizers": None}})
        await self.settle()


def _identity(obj: Object) -> tuple[Key, str]:
    metadata = obj["metadata"]
    return Key(metadata["namespace"], metadata["name"]), metadata["resourceVersion"]
