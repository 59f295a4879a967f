"""Logs of a function's pods, and of those that built it, by the API server. Called by `kn-lambda logs`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Protocol

from knative_lambda.api import kinds, meta
from knative_lambda.api.meta import Key
from knative_lambda.cli import seen
from knative_lambda.cli.loglines import Line, Lines
from knative_lambda.cluster.base import Cluster, ClusterError, Forbidden, Object, PodLogs, Selection
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.informer import Informer
from knative_lambda.resources.child import LABEL_FUNCTION_NAMESPACE, Component

SERVICE_LABEL = "serving.knative.dev/service"
SIDECAR = "queue-proxy"
"""Knative's own container, of which nobody wants to read."""
WAITING_LINES = 1000
"""That were read and not yet printed; then the reading waits."""


class LogCluster(Cluster, PodLogs, Protocol):
    """What can list pods and read their logs."""


def serving(key: Key) -> Selection:
    """Pods that run the function."""
    return Selection(namespace=key.namespace, labels=f"{SERVICE_LABEL}={key.name}")


async def building(cluster: Cluster, key: Key) -> Selection:
    """Pods that build it: in its own namespace, or wherever the controller lets builds run. Raises ClusterError."""
    labels = f"{meta.LABEL_COMPONENT}={Component.BUILD.value},{meta.LABEL_FUNCTION}={key.name}"
    near = Selection(namespace=key.namespace, labels=labels)
    if await seen.every(cluster, kinds.POD, near):
        return near
    anywhere = Selection(labels=f"{labels},{LABEL_FUNCTION_NAMESPACE}={key.namespace}")
    try:
        return anywhere if await seen.every(cluster, kinds.POD, anywhere) else near
    except Forbidden:
        return near


async def existing(
    cluster: LogCluster, selection: Selection, *, tail: int, newest_only: bool = False
) -> AsyncGenerator[Line, None]:
    """The last lines of every container, pod by pod, the oldest first. Raises ClusterError when pods cannot be listed.

    `newest_only`: of the youngest pod only, which is the newest build.
    """
    pods = sorted(await seen.every(cluster, kinds.POD, selection), key=_created)
    for pod in pods[-1:] if newest_only else pods:
        for container in _containers(pod):
            async with contextlib.aclosing(_printed(cluster, pod, container, tail=tail, follow=False)) as lines:
                async for line in lines:
                    yield line


async def following(
    cluster: LogCluster, selection: Selection, *, tail: int, clock: Clock
) -> AsyncGenerator[Line, None]:
    """The same, and then whatever is printed, by pods to come as well; for ever. Raises ClusterError at the start."""
    await seen.every(cluster, kinds.POD, selection)
    followers = _Followers(cluster, tail=tail)
    informer = Informer(cluster, kinds.POD, dict, clock=clock, selections=(selection,))
    informer.on_change(lambda _key, _old, pod: followers.look(pod) if pod else None)
    watching = asyncio.create_task(informer.run())
    try:
        await informer.wait_synced()
        followers.tail = None
        while True:
            yield await followers.arrived.get()
    finally:
        tasks = [watching, *followers.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Followers:
    """One task per container that has started; a container that starts again is another one."""

    def __init__(self, cluster: LogCluster, *, tail: int | None) -> None:
        self.arrived: asyncio.Queue[Line] = asyncio.Queue(WAITING_LINES)
        self.tasks: set[asyncio.Task[None]] = set()
        self.tail = tail
        """Of containers that ran before; None is everything."""
        self._cluster = cluster
        self._known: set[tuple[str, str, int]] = set()

    def look(self, pod: Object) -> None:
        """Called for every state of a pod."""
        for container, restarts in _started(pod):
            identity = (pod["metadata"].get("uid", ""), container, restarts)
            if identity not in self._known:
                self._known.add(identity)
                task = asyncio.create_task(self._follow(pod, container, self.tail))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def _follow(self, pod: Object, container: str, tail: int | None) -> None:
        async with contextlib.aclosing(_printed(self._cluster, pod, container, tail=tail, follow=True)) as lines:
            async for line in lines:
                await self.arrived.put(line)


async def _printed(
    cluster: PodLogs, pod: Object, container: str, *, tail: int | None, follow: bool
) -> AsyncGenerator[Line, None]:
    """A container that cannot be read says so in its place."""
    key = Key(pod["metadata"]["namespace"], pod["metadata"]["name"])
    lines = Lines(f"{key.name} {container}")
    try:
        async for chunk in cluster.log(key, container=container, tail=tail, follow=follow):
            for line in lines.feed(chunk):
                yield line
    except ClusterError as error:
        for line in lines.end():
            yield line
        yield Line(lines.origin, error.message, is_problem=True)
        return
    for line in lines.end():
        yield line


def _containers(pod: Object) -> list[str]:
    """In the order in which they run."""
    spec = pod.get("spec") or {}
    both = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return [one["name"] for one in both if one["name"] != SIDECAR]


def _started(pod: Object) -> Iterator[tuple[str, int]]:
    """Containers that have something to say, and how often each began anew."""
    status = pod.get("status") or {}
    rows: list[dict[str, Any]] = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    for row in rows:
        state = row.get("state") or {}
        if row["name"] != SIDECAR and ("running" in state or "terminated" in state):
            yield row["name"], int(row.get("restartCount") or 0)


def _created(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")
