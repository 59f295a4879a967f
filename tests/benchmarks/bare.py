"""The yardstick: an asyncio client that does nothing but the writes that nobody can avoid."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson

from tests.testbed.kubernetes import KubernetesBed

FUNCTIONS = "/apis/lambda.knative.io/v1alpha1/namespaces/{namespace}/lambdafunctions"
JOBS = "/apis/batch/v1/namespaces/{namespace}/jobs"
_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"


def function(name: str) -> dict[str, Any]:
    """An inline function, as small as a real one."""
    return {
        "apiVersion": "lambda.knative.io/v1alpha1",
        "kind": "LambdaFunction",
        "metadata": {"name": name},
        "spec": {
            "source": {"type": "inline", "inline": {"code": f"def handler(request):\n    return 'I am {name}'\n"}},
            "runtime": {"language": "python"},
        },
    }


class BareClient:
    """Plain aiohttp against the bed's API server."""

    def __init__(self, bed: KubernetesBed, *, connections: int = 50) -> None:
        self._bed = bed
        self._connections = connections

    async def __aenter__(self) -> BareClient:
        connector = aiohttp.TCPConnector(
            limit=self._connections, ssl=ssl.create_default_context(cafile=str(self._bed.ca_file))
        )
        self._session = aiohttp.ClientSession(
            base_url=self._bed.url, connector=connector, headers={"Authorization": f"Bearer {self._bed.token}"}
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, method: str, path: str, body: Any, content_type: str = "application/json") -> dict[str, Any]:
        """One write; anything but success ends the benchmark."""
        async with self._session.request(
            method, path, data=orjson.dumps(body), headers={"Content-Type": content_type}
        ) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            decoded: dict[str, Any] = orjson.loads(text)
            return decoded

    async def create_functions(self, namespace: str, names: list[str]) -> float:
        """Creates inline functions; returns the seconds it took."""
        return await self.create_objects(namespace, [function(name) for name in names])

    async def create_objects(self, namespace: str, manifests: list[dict[str, Any]]) -> float:
        """Creates LambdaFunctions; returns the seconds it took."""
        by_name = {manifest["metadata"]["name"]: manifest for manifest in manifests}
        path = FUNCTIONS.format(namespace=namespace)
        return await self._all(list(by_name), lambda name: self.send("POST", path, by_name[name]))

    async def three_writes(self, namespace: str, names: list[str], job: Callable[[str, str], dict[str, Any]]) -> float:
        """Function, Job and status of each; returns seconds."""

        async def one(name: str) -> None:
            made = await self.send("POST", FUNCTIONS.format(namespace=namespace), function(name))
            await self.send("POST", JOBS.format(namespace=namespace), job(name, made["metadata"]["uid"]))
            await self.send(
                "PATCH",
                f"{FUNCTIONS.format(namespace=namespace)}/{name}/status",
                {"status": building_status(made["metadata"]["generation"], f"{name}-0123456789")},
                _MERGE,
            )

        return await self._all(names, one)

    async def apply_functions(self, namespace: str, manifests: list[dict[str, Any]]) -> float:
        """Server-side apply of each; returns seconds."""
        by_name = {manifest["metadata"]["name"]: manifest for manifest in manifests}
        path = FUNCTIONS.format(namespace=namespace)
        return await self._all(
            list(by_name),
            lambda name: self.send("PATCH", f"{path}/{name}?fieldManager=bare&force=true", by_name[name], _APPLY),
        )

    async def _all(self, names: list[str], work: Callable[[str], Awaitable[Any]]) -> float:
        queue = list(reversed(names))

        async def worker() -> None:
            while queue:
                await work(queue.pop())

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(worker())
        return time.perf_counter() - began


def building_status(generation: int, job_name: str) -> dict[str, Any]:
    """A status as the controller would write it while the build runs."""
    now = "2026-01-01T00:00:00Z"
    condition = {"observedGeneration": generation, "lastTransitionTime": now, "message": ""}
    return {
        "observedGeneration": generation,
        "phase": "Building",
        "conditions": [
            {**condition, "type": "Ready", "status": "Unknown", "reason": "Building"},
            {**condition, "type": "Reconciling", "status": "True", "reason": "Building"},
            {**condition, "type": "SourceReady", "status": "True", "reason": "Resolved"},
            {**condition, "type": "BuildReady", "status": "Unknown", "reason": "Building"},
        ],
        "sourceStatus": {"digest": "0" * 64, "revision": "inline", "generation": generation},
        "buildStatus": {"digest": "0" * 64, "jobName": job_name, "startedAt": now},
    }
