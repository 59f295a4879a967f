"""What a local mode is made of, before anything runs."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from knative_lambda import settings
from knative_lambda.api import crd, kinds
from knative_lambda.api.meta import ANNOTATION_RECONCILE, Key
from knative_lambda.cluster.base import NotFound
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.events.sqlite_letters import SqliteLetters
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local import dev, origin
from knative_lambda.local.heard import Heard, Remark
from knative_lambda.local.origin import Origin
from knative_lambda.machinery.process import Service


def test_environment_of_a_controller_does_not_bear_on_local_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KN_LAMBDA_BUILD_NAMESPACE", "builds")
    monkeypatch.setenv("KN_LAMBDA_CONTROLLERS", "repositories")
    monkeypatch.setenv("KN_LAMBDA_NAMESPACES", "shop")
    assert settings.load(events="none").build_namespace == "builds", "else this test proves nothing"
    found = dev._settings(dev.Options(".", tmp_path), "http://127.0.0.1:8080")
    assert (found.build_namespace, found.controllers, found.namespaces) == (None, settings.CONTROLLERS, ())


def test_dead_letters_go_to_the_port_at_which_functions_answer(tmp_path: Path) -> None:
    found = dev._settings(dev.Options(".", tmp_path, rabbitmq="amqp://u:hunter2@127.0.0.1/"), "http://127.0.0.1:8080")
    assert (found.dead_letter_url, found.events) == ("http://127.0.0.1:8080", "rabbitmq")
    assert "hunter2" not in repr(found)


def test_second_local_mode_on_a_folder_is_told_what_to_do(tmp_path: Path) -> None:
    with dev._alone(tmp_path), pytest.raises(dev.DevError, match="--state-dir"), dev._alone(tmp_path):
        pass
    with dev._alone(tmp_path):
        assert (tmp_path / "lock").exists()


async def test_what_the_server_runs_is_what_the_builder_may_not_delete(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        options = dev.Options(".", tmp_path)
        here = dev._ClusterHere(options, Origin("functions"), sock, lambda _: Service("screen", asyncio.Event().wait))
        letters = SqliteLetters(tmp_path / "letters.db", clock=SystemClock())
        found = dev._settings(options, here.url)
        cluster = MemoryCluster(clock=SystemClock())
        players = dev._Players(here, found, cluster, letters, Heard(), clock=SystemClock(), remark=lambda *_: None)
        assert players.builder._in_use == players.server.images
        players.images.close()
        await letters.close()


async def test_folder_that_cannot_be_read_for_a_while_ends_nothing(tmp_path: Path) -> None:
    """A file that goes while git reads it, say; here it is a repository inside that has no commit yet."""
    folder = tmp_path / "functions"
    folder.mkdir()
    found = origin.of(str(folder), state=tmp_path / "state", watch=None)
    clock, heard = SystemClock(), Heard()
    cluster = MemoryCluster(clock=clock, definitions=crd.definitions())
    options, key = dev.Options(str(folder), tmp_path / "state"), Key("default", found.name)
    stage = dev.Stage(options, "http://127.0.0.1:8080", key, cluster, None, heard)  # type: ignore[arg-type]

    async def asked() -> str:
        try:
            repository = await cluster.get(kinds.FUNCTION_REPOSITORY, key)
        except NotFound:
            return "not there"
        return str(repository["metadata"].get("annotations", {}).get(ANNOTATION_RECONCILE, ""))

    async def told_and_mended() -> None:
        told = await heard.next()
        assert isinstance(told, Remark)
        assert "does not have a commit checked out" in told.text
        shutil.rmtree(folder / "inner")
        (folder / "more.txt").write_text(f"{clock.now()}")

    def broken() -> None:
        subprocess.run(["git", "init", "--quiet", str(folder / "inner")], check=True)

    broken()
    following = asyncio.create_task(dev._follow(stage, found, clock))
    try:
        async with asyncio.timeout(30):
            await told_and_mended()
            while await asked() != "":
                await asyncio.sleep(0.01)
            broken()
            await told_and_mended()
            while not await asked():
                await asyncio.sleep(0.01)
        assert not following.done()
    finally:
        following.cancel()
        await asyncio.wait({following})
