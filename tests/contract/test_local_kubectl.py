"""A person with kubectl in local mode: the real program against the API over a memory cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from knative_lambda.api import crd, function
from knative_lambda.api.kinds import CONFIG_MAP, EVENT, LAMBDA_FUNCTION, SECRET, SERVICE
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import NotFound
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import SystemClock
from tests.localapi import served
from tests.testbed import assets
from tests.testbed.errors import Unavailable

pytestmark = pytest.mark.contract

Kubectl = Callable[..., Awaitable[str]]
HELLO = Key("default", "hello")
MANIFEST: dict[str, Any] = {
    "apiVersion": LAMBDA_FUNCTION.api_version,
    "kind": "LambdaFunction",
    "metadata": {"name": "hello"},
    "spec": {
        "runtime": {"language": "python", "version": "3.11"},
        "source": {"type": "inline", "inline": {"code": "def handler(event): return event"}},
    },
}


class Refused(Exception):
    """kubectl ended with a code other than 0; its words."""


@pytest.fixture
def cluster() -> MemoryCluster:
    validators = {LAMBDA_FUNCTION: function.parse}
    return MemoryCluster(clock=SystemClock(), definitions=crd.definitions(), kinds=[SERVICE], validators=validators)


@pytest.fixture
async def kubectl(cluster: MemoryCluster, tmp_path: Path) -> AsyncIterator[Kubectl]:
    """Runs kubectl with the kubeconfig of local mode and returns what it printed."""
    try:
        program = await asyncio.to_thread(assets.kubectl)
    except Unavailable as gap:
        pytest.skip(gap.reason)
    async with served(cluster, tmp_path) as local:

        async def run(*arguments: str, stdin: str = "") -> str:
            process = await asyncio.create_subprocess_exec(
                program, "--kubeconfig", local.kubeconfig, *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "HOME": str(tmp_path)},
            )  # fmt: skip
            async with asyncio.timeout(60):
                out, err = await process.communicate(stdin.encode())
            if process.returncode:
                raise Refused(err.decode())
            return out.decode()

        yield run


def manifest(**spec: Any) -> str:
    return yaml.safe_dump({**MANIFEST, "spec": {**MANIFEST["spec"], **spec}})


async def test_a_function_from_apply_to_delete(kubectl: Kubectl, cluster: MemoryCluster) -> None:
    assert await kubectl("apply", "-f", "-", stdin=manifest()) == "lambdafunction.lambda.knative.io/hello created\n"
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=manifest())
    assert "configured" in await kubectl("apply", "-f", "-", stdin=manifest(scaling={"maxReplicas": 3}))
    assert (await cluster.get(LAMBDA_FUNCTION, HELLO))["spec"]["scaling"]["maxReplicas"] == 3
    await kubectl("label", "lfn", "hello", "team=a")

    header, row = (await kubectl("get", "lfn")).splitlines()
    assert header.split() == ["NAME", "READY", "PHASE", "LANGUAGE", "URL", "AGE"]
    assert row.split()[:2] == ["hello", "python"]
    assert "IMAGE" in await kubectl("get", "lfn", "-o", "wide", "-l", "team=a")
    assert await kubectl("get", "knative", "-o", "name") == "lambdafunction.lambda.knative.io/hello\n"
    assert yaml.safe_load(await kubectl("get", "lfn", "hello", "-o", "yaml"))["metadata"]["labels"] == {"team": "a"}

    await kubectl("delete", "lfn", "hello")
    with pytest.raises(NotFound):
        await cluster.get(LAMBDA_FUNCTION, HELLO)
    with pytest.raises(Refused, match=r'lambdafunctions "hello" not found'):
        await kubectl("get", "lfn", "hello")


async def test_a_person_waits_until_it_is_ready_and_until_it_is_gone(kubectl: Kubectl, cluster: MemoryCluster) -> None:
    held = {**MANIFEST, "metadata": {"name": "hello", "finalizers": ["lambda.knative.io/finalizer"]}}
    await kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(held))
    waiting = asyncio.create_task(kubectl("wait", "--for=condition=Ready", "lfn/hello", "--timeout=30s"))
    await asyncio.sleep(1)
    condition = {
        "type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    await cluster.patch(LAMBDA_FUNCTION, HELLO, {"status": {"conditions": [condition]}}, subresource="status")
    assert "condition met" in await waiting
    deleting = asyncio.create_task(kubectl("delete", "lfn", "hello", "--timeout=30s"))
    await asyncio.sleep(1)
    assert not deleting.done()
    await cluster.patch(LAMBDA_FUNCTION, HELLO, {"metadata": {"finalizers": None}})
    assert "deleted" in await deleting


async def test_describe_ends_with_the_events(kubectl: Kubectl, cluster: MemoryCluster) -> None:
    await kubectl("apply", "-f", "-", stdin=manifest())
    uid = (await cluster.get(LAMBDA_FUNCTION, HELLO))["metadata"]["uid"]
    regarding = {"apiVersion": LAMBDA_FUNCTION.api_version, "kind": "LambdaFunction", "uid": uid}
    await cluster.create(
        EVENT,
        {
            "metadata": {"name": "hello.1", "namespace": "default"},
            "eventTime": "2026-01-01T00:00:00.123456Z",
            "regarding": {**regarding, "name": "hello", "namespace": "default"},
            "reason": "Building",
            "type": "Normal",
            "note": "builds it",
            "reportingController": "knative-lambda",
        },
    )
    told = (await kubectl("describe", "lfn", "hello")).partition("Events:")[2]
    assert "Building" in told
    assert "builds it" in told
    assert "LambdaFunction/hello" in await kubectl("events")
    assert "builds it" in await kubectl("get", "events")


async def test_a_mistake_is_explained(kubectl: Kubectl, cluster: MemoryCluster) -> None:
    with pytest.raises(Refused, match=r'"hello" is invalid: spec\.runtime\.language: "cobol" is not one of'):
        await kubectl("apply", "-f", "-", stdin=manifest(runtime={"language": "cobol", "version": "1"}))
    with pytest.raises(Refused, match=r'unknown field "spec\.surprise"'):
        await kubectl("apply", "-f", "-", stdin=manifest(surprise=1))
    with pytest.raises(Refused, match="doesn't have a resource type"):
        await kubectl("get", "ghosts")
    assert (await cluster.list(LAMBDA_FUNCTION)).items == []


async def test_secrets_and_config_maps_are_made_and_changed(kubectl: Kubectl, cluster: MemoryCluster) -> None:
    await kubectl("create", "secret", "generic", "git", "--from-literal=token=x")
    assert (await cluster.get(SECRET, Key("default", "git")))["data"] == {"token": "eA=="}
    for value in ("1", "2"):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": value}}
        await kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body))
    assert (await cluster.get(CONFIG_MAP, Key("default", "a")))["data"] == {"a": "2"}
    await kubectl("delete", "configmap", "--all")
    assert (await cluster.list(CONFIG_MAP)).items == []


async def test_a_rehearsal_shows_what_would_change(kubectl: Kubectl, cluster: MemoryCluster) -> None:
    await kubectl("apply", "-f", "-", stdin=manifest())
    before = await cluster.get(LAMBDA_FUNCTION, HELLO)
    changed = manifest(scaling={"maxReplicas": 3})
    with pytest.raises(Refused):  # a difference is an error for kubectl diff
        await kubectl("diff", "-f", "-", stdin=changed)
    assert "configured (server dry run)" in await kubectl("apply", "--dry-run=server", "-f", "-", stdin=changed)
    assert await cluster.get(LAMBDA_FUNCTION, HELLO) == before


async def test_explain_teaches_the_fields(kubectl: Kubectl) -> None:
    told = await kubectl("explain", "lfn.spec.scaling.scaleToZeroGracePeriod")
    assert "How long the last replica is kept without traffic" in told


async def test_versions_fit(kubectl: Kubectl) -> None:
    assert "Server Version: v1.33" in await kubectl("version")
    assert "lambdafunctions" in await kubectl("api-resources", "--categories=knative")
