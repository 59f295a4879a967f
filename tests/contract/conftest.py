"""Places in which the contract of the cluster port is tested: in memory, by our client over local mode's API, and on a
real API server.

A Place is a cluster of its own namespace, and the two things that differ outside the port: how history is forgotten
and how long one waits for what follows from a write.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import yaml

from knative_lambda.api.meta import Kind
from knative_lambda.cluster.base import Cluster
from knative_lambda.cluster.kube import KubeCluster
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.cluster.transport import Tuning
from knative_lambda.kit.clock import SystemClock
from tests.localapi import served

if TYPE_CHECKING:
    from tests.testbed.kubernetes import KubernetesBed

WIDGET = Kind("contract.lambda.knative.io", "v1", "widgets", "Widget")
WIDGETS = Path(__file__).parents[1] / "testdata" / "cluster" / "widgets.yaml"


class Place(Protocol):
    """Where one test of the contract happens."""

    cluster: Cluster
    namespace: str

    async def forget_history(self) -> None:
        """From now on watches of old versions are Gone."""
        ...

    async def eventually(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Returns when it holds; fails after the time that this place may need."""
        ...


class MemoryPlace:
    """MemoryCluster, where everything that follows from a write has happened when it returns."""

    def __init__(self, definition: dict[str, Any]) -> None:
        self._memory = MemoryCluster(clock=SystemClock(), definitions=[definition], bookmark_seconds=1.0)
        self.cluster: Cluster = self._memory
        self.namespace = f"contract-{uuid.uuid4().hex[:8]}"

    async def forget_history(self) -> None:
        self._memory.compact()

    async def eventually(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        assert await holds(), what


class LocalPlace(MemoryPlace):
    """KubeCluster, as it speaks to any API server, on a memory cluster behind local mode's API."""

    @classmethod
    @contextlib.asynccontextmanager
    async def serve(cls, definition: dict[str, Any], folder: Path) -> AsyncIterator[LocalPlace]:
        local = cls(definition)
        async with served(local._memory, folder) as api:
            local.cluster = await api.connect()
            yield local
            await local.cluster.close()


class KubePlace:
    """KubeCluster on the test bed."""

    def __init__(self, cluster: KubeCluster, bed: KubernetesBed) -> None:
        self.cluster: Cluster = cluster
        self.namespace = f"contract-{uuid.uuid4().hex[:8]}"
        self._bed = bed

    async def forget_history(self) -> None:
        await asyncio.to_thread(self._bed.forget_history)

    async def eventually(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        for _ in range(300):
            if await holds():
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"did not happen within 30 s: {what}")


@pytest.fixture(params=["memory", "local", "kube"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    definition = yaml.safe_load(WIDGETS.read_text())
    if request.param == "memory":
        memory = MemoryPlace(definition)
        yield memory
        await memory.cluster.close()
        return
    if request.param == "local":
        async with LocalPlace.serve(definition, tmp_path) as local:
            yield local
        return
    async with on_bed(request.getfixturevalue("contract_bed")) as kube:
        yield kube


@pytest.fixture
async def kube_place(contract_bed: KubernetesBed) -> AsyncIterator[KubePlace]:
    async with on_bed(contract_bed) as kube:
        yield kube


@contextlib.asynccontextmanager
async def on_bed(bed: KubernetesBed) -> AsyncIterator[KubePlace]:
    cluster = await KubeCluster.connect(kubeconfig=bed.kubeconfig, clock=SystemClock(), tuning=Tuning(qps=0))
    kube = KubePlace(cluster, bed)
    await asyncio.to_thread(bed.create_namespace, kube.namespace)
    yield kube
    await cluster.close()
    await asyncio.to_thread(bed.delete_namespace, kube.namespace)


@pytest.fixture(scope="session")
def contract_bed(kubernetes_bed: KubernetesBed) -> KubernetesBed:
    """The shared bed with the contract's own kind on it."""
    kubernetes_bed.apply_crds([WIDGETS])
    return kubernetes_bed
