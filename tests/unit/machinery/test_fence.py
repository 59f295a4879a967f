"""The fence lets reads through, and writes only while its owner leads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Cluster, EventKind, Object, WriteFenced
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.fence import Fenced

KIND = kinds.CONFIG_MAP
KEY = Key("ns", "a")
OBJECT: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "ns", "name": "a"}}

WRITES: dict[str, Callable[[Cluster, Object], Awaitable[object]]] = {
    "create": lambda cluster, live: cluster.create(KIND, {**OBJECT, "metadata": {"namespace": "ns", "name": "b"}}),
    "apply": lambda cluster, live: cluster.apply(KIND, {**OBJECT, "data": {"x": "1"}}),
    "patch": lambda cluster, live: cluster.patch(KIND, KEY, {"data": {"x": "1"}}),
    "replace": lambda cluster, live: cluster.replace(KIND, {**live, "data": {"x": "1"}}),
    "delete": lambda cluster, live: cluster.delete(KIND, KEY),
}


@pytest.mark.parametrize("verb", WRITES)
async def test_a_write_passes_for_the_leader_and_is_refused_to_others(verb: str) -> None:
    cluster = MemoryCluster(clock=ManualClock())
    live = await cluster.create(KIND, OBJECT)
    leading = False
    fenced = Fenced(cluster, lambda: leading)
    before = cluster.counts.writes
    with pytest.raises(WriteFenced, match=rf"{verb} ConfigMap ns/[ab]: this process does not lead"):
        await WRITES[verb](fenced, live)
    assert cluster.counts.writes == before
    leading = True
    await WRITES[verb](fenced, live)
    assert cluster.counts.writes == before + 1


async def test_reads_pass_for_everybody() -> None:
    cluster = MemoryCluster(clock=ManualClock())
    await cluster.create(KIND, OBJECT)
    fenced = Fenced(cluster, lambda: False)
    assert (await fenced.get(KIND, KEY))["metadata"]["name"] == "a"
    page = await fenced.list(KIND)
    assert len(page.items) == 1
    assert await fenced.served(KIND)
    await cluster.delete(KIND, KEY)
    async for event in fenced.watch(KIND, resource_version=page.resource_version):
        assert event.kind is EventKind.DELETED
        break
    await fenced.close()
