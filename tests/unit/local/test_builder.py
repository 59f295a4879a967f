"""The host builder over a memory cluster: Jobs as the reconcile writes them in, what the reconcile reads out."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from knative_lambda.api import kinds
from knative_lambda.api.conditions import Condition, ConditionType, Reason, Status
from knative_lambda.api.function import LambdaFunction, Language
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import NotFound
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local import gitserve
from knative_lambda.local.building import builder as builders
from knative_lambda.local.building.builder import HostBuilder
from knative_lambda.local.building.commands import CommandFailed
from knative_lambda.local.building.images import ImageStore
from knative_lambda.local.building.toolchains.base import ToolchainMissing
from knative_lambda.local.building.toolchains.memory import MemoryToolchain
from knative_lambda.machinery.recorder import Regarding
from knative_lambda.reconcile.act import Outcome
from knative_lambda.reconcile.conclude import conclude
from knative_lambda.reconcile.decide import decide
from knative_lambda.resources import observed
from knative_lambda.resources.kaniko_job import KANIKO_CONTAINER
from knative_lambda.sources.dial import DialPolicy
from tests import gen
from tests.gen import Raw


class World:
    """A cluster with a host builder in it."""

    def __init__(
        self, folder: Path, *, limit: int = 10_000_000, allowed: Sequence[str] = (), running: Sequence[str] = ()
    ) -> None:
        self.clock = SystemClock()
        self.cluster = MemoryCluster(clock=self.clock, kinds=(kinds.SERVICE,))
        self.toolchain = MemoryToolchain()
        self.images = ImageStore(folder / "images", limit_bytes=limit, grace=0)
        self.builder = HostBuilder(
            self.cluster,
            self.images,
            clock=self.clock,
            state=folder / "builds",
            policy=DialPolicy(allowed),
            toolchains=lambda environment: {Language.PYTHON: self.toolchain, Language.NODEJS: self.toolchain},
            in_use=lambda: running,
            remark=lambda function, words: self.remarks.append((function, words)),
        )
        self.remarks: list[tuple[Regarding, str]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        services = self.builder.services()
        tasks = [asyncio.ensure_future(service.run()) for service in services]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for service in services:
                if service.drain is not None:
                    await service.drain()
            self.images.close()

    async def ask(self, fn: LambdaFunction, **spec: Any) -> Key:
        """Writes the function's build Job."""
        manifest = gen.job_manifest(fn)
        manifest["spec"].update(spec)
        await self.cluster.create(kinds.JOB, manifest)
        return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])

    async def job(self, key: Key) -> Raw:
        return await self.cluster.get(kinds.JOB, key)

    async def over(self, key: Key) -> Raw:
        """The Job once it has ended."""
        await until(lambda: self._ended(key))
        return await self.job(key)

    async def _ended(self, key: Key) -> bool:
        return bool((await self.job(key)).get("status", {}).get("conditions"))

    async def told(self, fn: LambdaFunction, key: Key) -> Condition:
        """What the reconcile says of the build once its Job is over."""
        raw = await self.over(key)
        seen = gen.snapshot(fn, jobs=(observed.project_job(raw),), pods=await self.pods())
        status = conclude(seen, decide(seen, gen.SETTINGS), Outcome())
        return next(one for one in status.conditions if one.type == ConditionType.BUILD_READY.value)

    async def pods(self) -> tuple[observed.PodSeen, ...]:
        page = await self.cluster.list(kinds.POD)
        return tuple(observed.project_pod(one) for one in page.items)

    async def digest(self, key: Key) -> str:
        """The image that a Job made."""
        raw = await self.over(key)
        pods = [pod for pod in await self.pods() if pod.job_uid == raw["metadata"]["uid"]]
        end = pods[0].end_of(KANIKO_CONTAINER)
        assert end is not None
        return end.message


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


def other(name: str) -> LambdaFunction:
    """A function of its own code."""
    return gen.lambda_function(name, gen.with_source(gen.inline(f"def handler(event):\n    return {name!r}\n")))


async def test_job_becomes_an_image_that_can_be_found(world: World) -> None:
    fn = gen.lambda_function()
    async with world.running():
        key = await world.ask(fn)
        found = await world.told(fn, key)
        assert (found.status, found.reason) == (Status.TRUE, Reason.BUILD_SUCCEEDED)
        reference = found.message.removesuffix(" is pushed")
        image = world.images.find(reference)
    assert image is not None
    assert (image.folder / "function" / "main.py").read_text() == fn.spec.source.inline.code  # type: ignore[union-attr]


async def test_two_functions_of_the_same_code_share_an_image(world: World) -> None:
    async with world.running():
        first = await world.digest(await world.ask(gen.lambda_function("one")))
        second = await world.digest(await world.ask(gen.lambda_function("two")))
    assert first == second
    assert len(world.toolchain.installed) == 1


async def test_dependency_that_does_not_exist_is_told_in_the_installers_words(world: World) -> None:
    fn = gen.lambda_function()
    said = "ERROR: No matching distribution found for nope==9"
    world.toolchain.failing.append(CommandFailed("pip", 1, said))
    async with world.running():
        found = await world.told(fn, await world.ask(fn))
    assert (found.status, found.reason) == (Status.FALSE, Reason.BUILD_FAILED)
    assert found.message == f"building the image failed (pip exited with 1): {said}"


async def test_missing_toolchain_fails_that_function_alone(world: World) -> None:
    fn = gen.lambda_function("node", gen.with_runtime("nodejs", "22"), gen.with_source(gen.inline("exports.handler=0")))
    world.toolchain.failing.append(ToolchainMissing("npm", "npm is not found on PATH"))
    async with world.running():
        found = await world.told(fn, await world.ask(fn))
        assert found.message == "building the image failed (npm exited with 127): npm is not found on PATH"
        assert await world.digest(await world.ask(gen.lambda_function("healthy")))


async def test_source_that_must_be_mended_fails_at_once(world: World) -> None:
    fn = gen.lambda_function("hello", gen.with_source(gen.git("http://127.0.0.1:9/functions.git")))
    async with world.running():
        found = await world.told(fn, await world.ask(fn))
    assert found.reason == Reason.BUILD_FAILED
    assert "fetching the source failed (build-context exited with 65)" in found.message
    assert "is loopback" in found.message


async def test_version_without_a_runtime_is_refused_by_name(world: World) -> None:
    fn = gen.lambda_function("hello", gen.with_runtime("go", "1.23"))
    async with world.running():
        found = await world.over(await world.ask(fn))
        pods = await world.pods()
    assert found["status"]["conditions"][0]["reason"] == "PodFailurePolicy"
    assert pods[0].ends[0].message == "runtime go 1.23 has no builder in this release"


async def test_request_that_cannot_be_read_is_refused(world: World) -> None:
    manifest = gen.job_manifest(gen.lambda_function())
    manifest["spec"]["template"]["spec"]["initContainers"][0]["env"][0]["value"] = "bm90IGd6aXA="
    async with world.running():
        await world.cluster.create(kinds.JOB, manifest)
        await world.over(Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"]))
        pods = await world.pods()
    assert pods[0].ends[0].exit_code == 65
    assert "the build request cannot be read" in pods[0].ends[0].message


async def test_function_that_gets_another_version_than_it_asks_for_is_told_of(world: World) -> None:
    asks = gen.lambda_function("asks", gen.with_runtime("python", "3.12"))
    world.toolchain.notes = ("the function asks for python 3.12, this machine runs it with 3.11",)
    async with world.running():
        key = await world.ask(asks)
        await world.digest(key)
        assert world.remarks == [
            (Regarding(kinds.LAMBDA_FUNCTION, Key(gen.NAMESPACE, "asks"), asks.metadata.uid), world.toolchain.notes[0])
        ]
        assert world.toolchain.notes[0] in world.builder.log_of(key).read_text()


async def test_function_that_asks_for_no_version_is_content_with_any(world: World) -> None:
    content = gen.lambda_function("content", gen.with_spec(runtime={"language": "python"}))
    world.toolchain.notes = ("the function asks for python 3.13, this machine runs it with 3.11",)
    async with world.running():
        await world.digest(await world.ask(content))
    assert world.remarks == []


async def test_secrets_in_what_an_installer_says_are_masked(world: World) -> None:
    fn = gen.lambda_function()
    world.toolchain.failing.append(CommandFailed("pip", 1, "GET https://me:hunter2@index.example/simple: 401"))
    async with world.running():
        found = await world.told(fn, await world.ask(fn))
    assert "hunter2" not in found.message
    assert "index.example" in found.message


async def test_build_that_takes_too_long_is_a_timeout(world: World) -> None:
    fn = gen.lambda_function()
    world.toolchain.paused = True
    async with world.running():
        found = await world.told(fn, await world.ask(fn, activeDeadlineSeconds=1))
    assert found.reason == Reason.BUILD_TIMEOUT
    assert world.toolchain.running == 0


async def test_no_more_than_two_builds_run_at_once(world: World) -> None:
    world.toolchain.paused = True
    async with world.running():
        dependencies = [
            {"type": "inline", "inline": {"code": "x = 1", "dependencies": f"package-{n}"}} for n in range(4)
        ]
        keys = [
            await world.ask(gen.lambda_function(f"f-{n}", gen.with_source(one))) for n, one in enumerate(dependencies)
        ]
        await until(lambda: running(world, 2))
        await asyncio.sleep(0.2)
        assert world.toolchain.running == builders.WORKERS == 2
        world.toolchain.paused = False
        assert len({await world.digest(key) for key in keys}) == 4


async def running(world: World, count: int) -> bool:
    return world.toolchain.running == count


async def test_job_that_is_deleted_while_it_is_built_is_not_finished(world: World) -> None:
    world.toolchain.paused = True
    async with world.running():
        key = await world.ask(gen.lambda_function())
        await until(lambda: running(world, 1))
        await world.cluster.delete(kinds.JOB, key)
        await until(lambda: running(world, 0))
        world.toolchain.paused = False
        await asyncio.sleep(0.05)
        assert await world.pods() == ()
    assert world.toolchain.installed == []


async def test_second_save_while_the_first_is_built_is_built_too(world: World) -> None:
    """Each save is a Job of its own; the reconcile looks at the newest."""
    world.toolchain.paused = True
    async with world.running():
        first = await world.ask(other("first"))
        await until(lambda: running(world, 1))
        second = await world.ask(other("second"))
        await world.cluster.delete(kinds.JOB, first)
        world.toolchain.paused = False
        digest = await world.digest(second)
        image = world.images.find(digest)
    assert image is not None
    assert "second" in (image.folder / "function" / "main.py").read_text()


async def test_stopping_ends_builds_and_leaves_nothing_half_made(world: World, tmp_path: Path) -> None:
    world.toolchain.paused = True
    async with world.running():
        key = await world.ask(gen.lambda_function())
        await until(lambda: running(world, 1))
    assert world.toolchain.running == 0
    assert list((tmp_path / "images" / "building").iterdir()) == []
    assert list((tmp_path / "images" / "layers").iterdir()) == []
    assert "conditions" not in (await world.job(key)).get("status", {})


async def test_job_goes_some_time_after_its_end_with_its_pod(world: World) -> None:
    async with world.running():
        key = await world.ask(gen.lambda_function(), ttlSecondsAfterFinished=0)
        await until(lambda: gone(world, key))
        await until(lambda: no_pods(world))


async def gone(world: World, key: Key) -> bool:
    try:
        await world.job(key)
    except NotFound:
        return True
    return False


async def no_pods(world: World) -> bool:
    return await world.pods() == ()


async def test_log_of_a_build_is_kept(world: World) -> None:
    async with world.running():
        key = await world.ask(gen.lambda_function())
        digest = await world.digest(key)
    assert f"made {digest}" in world.builder.log_of(key).read_text()


async def test_images_that_services_run_stay_when_there_is_no_room(tmp_path: Path) -> None:
    fn = gen.lambda_function("kept")
    before = World(tmp_path)
    async with before.running():
        kept = await before.digest(await before.ask(fn))
    world = World(tmp_path, limit=0)
    async with world.running():
        await world.cluster.apply(kinds.SERVICE, gen.service_manifest(fn, f"registry/kept@{kept}"))
        await world.digest(await world.ask(other("next")))
        await until(lambda: evicted_all_but(world, tmp_path, kept))


async def test_image_of_a_revision_that_no_service_names_any_more_stays_while_it_runs(tmp_path: Path) -> None:
    """The newest revision fails, so the one before it goes on."""
    before = World(tmp_path)
    async with before.running():
        kept = await before.digest(await before.ask(gen.lambda_function("kept")))
    world = World(tmp_path, limit=0, running=[f"registry/kept@{kept}"])
    async with world.running():
        await world.digest(await world.ask(other("next")))
        await until(lambda: evicted_all_but(world, tmp_path, kept))


async def evicted_all_but(world: World, folder: Path, digest: str) -> bool:
    return [one.name for one in (folder / "images" / "images").iterdir()] == [digest.removeprefix("sha256:")]


async def test_state_folder_that_was_taken_away_is_said(world: World, tmp_path: Path) -> None:
    fn = gen.lambda_function()
    async with world.running():
        shutil.rmtree(tmp_path / "images")
        found = await world.told(fn, await world.ask(fn))
    assert "building the image failed (storage exited with 1)" in found.message
    assert "No such file or directory" in found.message


async def test_log_that_cannot_be_written_is_said(world: World, tmp_path: Path) -> None:
    (tmp_path / "builds").write_text("a file where the folder of logs should be")
    fn = gen.lambda_function()
    async with world.running():
        found = await world.told(fn, await world.ask(fn))
    assert "storage exited with 1" in found.message


# ---- sources ----


async def test_repository_on_this_machine_is_fetched_over_loopback_when_that_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "functions"
    (folder / "hello").mkdir(parents=True)
    (folder / "hello" / "main.py").write_text("def handler(event):\n    return 'from git'\n")
    commit = committed(folder)
    world = World(tmp_path / "state", allowed=["127.0.0.1"])
    async with serving(folder / ".git") as url, world.running():
        fn = gen.lambda_function(
            "hello", gen.with_source({"type": "git", "git": {"url": url, "commit": commit, "path": "hello"}})
        )
        image = world.images.find(await world.digest(await world.ask(fn)))
    assert image is not None
    assert "from git" in (image.folder / "function" / "main.py").read_text()


def committed(folder: Path) -> str:
    identity = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@asynccontextmanager
async def serving(git_dir: Path) -> AsyncIterator[str]:
    """A repository over HTTP, as dev serves it."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=gitserve.routes(git_dir)), log_level="error", lifespan="off")
    )
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/git/repository"
    finally:
        server.should_exit = True
        await task


async def test_repository_that_cannot_be_reached_is_tried_again(world: World) -> None:
    fn = gen.lambda_function("hello", gen.with_source(gen.git("http://nowhere.invalid/functions.git")))
    async with world.running():
        key = await world.ask(fn, backoffLimit=1)
        found = await world.told(fn, key)
    assert "host nowhere.invalid has no address" in found.message
    assert "exited with 1" in found.message


async def test_secret_that_is_not_there_is_said(world: World) -> None:
    fn = gen.lambda_function("hello", gen.with_source(gen.git(secretRef={"name": "deploy-key"})))
    async with world.running():
        found = await world.told(fn, await world.ask(fn))
    assert "the Secret deploy-key of the source is not there" in found.message


@pytest.mark.parametrize("value", ["not base64!", base64.b64encode(b"\xff\xfe").decode()])
async def test_secret_that_cannot_be_read_is_said_without_its_value(world: World, value: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "deploy-key", "namespace": gen.NAMESPACE}}
    await world.cluster.create(kinds.SECRET, {**secret, "data": {"password": value}})
    fn = gen.lambda_function("hello", gen.with_source(gen.git(secretRef={"name": "deploy-key"})))
    async with world.running():
        found = await world.told(fn, await world.ask(fn))
    assert "the Secret deploy-key of the source cannot be read" in found.message
    assert value not in found.message
