"""Functions that misbehave: what they may not do to this machine, to each other and to who calls them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from knative_lambda.api.meta import Key
from knative_lambda.local.building.images import LocalImage
from tests.local.stage import NAMESPACE, QUICK, Stage, alive, condition, landlock_version, serves, staged, until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are read from /proc")

HELLO = Key(NAMESPACE, "hello")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as stage:
        yield stage


async def test_a_crash_costs_its_own_request_only(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    crashed = await stage.ask("hello", "/exit?3")
    assert crashed.status == 502
    assert b"Traceback" not in crashed.body
    assert (await stage.ask("hello")).status == 200
    assert condition(await stage.read("hello"), "Ready")["status"] == "True"


async def test_a_hang_is_answered_504_and_the_instance_replaced(stage: Stage) -> None:
    await stage.apply("hello", timeout=1)
    await stage.settled("hello")
    hanging = int((await stage.ask("hello", "/pid")).body)
    assert (await stage.ask("hello", "/sleep?600")).status == 504
    answer = await stage.ask("hello", "/pid")
    assert answer.status == 200
    assert int(answer.body) != hanging
    await until(lambda: not alive(hanging))


async def test_children_end_with_their_function(stage: Stage) -> None:
    await stage.apply("hello", env={"STUBBORN": "yes"})
    await stage.settled("hello")
    children = orjson.loads((await stage.ask("hello", "/fork")).body)
    assert all(map(alive, children))
    await stage.delete("hello")
    await until(lambda: not any(map(alive, children)))


async def test_a_fork_bomb_is_ended(tmp_path: Path) -> None:
    async with staged(tmp_path, replace(QUICK, tasks=60, look_seconds=0.05)) as stage:
        await stage.apply("hello", memory="1Gi")
        await stage.settled("hello")
        assert (await stage.ask("hello", "/bomb")).status == 502
        await until(lambda: "processes and threads, its limit is 60" in stage.logs("hello"))
        await until(lambda: serves(stage))


@pytest.mark.parametrize("pause", ["0.01", "0"], ids=["slow", "fast"])
async def test_a_memory_hog_is_ended(stage: Stage, pause: str) -> None:
    await stage.apply("hello", memory="64Mi")
    await stage.settled("hello")
    assert (await stage.ask("hello", f"/eat?{pause}")).status == 502
    if pause != "0":
        assert "OOMKilled: used" in stage.logs("hello")
    await until(lambda: serves(stage))


async def test_children_that_left_the_session_eat_of_the_same_memory(stage: Stage) -> None:
    await stage.apply("hello", memory="100Mi")
    await stage.settled("hello")
    children = orjson.loads((await stage.ask("hello", "/eat_in_sessions_of_their_own?40")).body)
    await until(lambda: "OOMKilled: used" in stage.logs("hello"))
    await until(lambda: not any(map(alive, children)))
    await until(lambda: serves(stage))


async def test_much_output_does_not_fill_the_disk(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    assert (await stage.ask("hello", "/shout?100")).body == b'"said"'
    folder = stage.server.log_folder(HELLO)
    await until(lambda: len(list(folder.iterdir())) == 2)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= stage.options.log_bytes


async def test_many_files_together_do_not_fill_the_disk(stage: Stage) -> None:
    """The system limits each of them; the Service's temporary folder has a limit for all, which is 8 MiB here."""
    await stage.apply("hello")
    await stage.settled("hello")
    assert (await stage.ask("hello", "/fill?7")).status == 200
    folder = Path(orjson.loads((await stage.ask("hello", "/env")).body)["HOME"]).parent
    await stage.ask("hello", "/fill?20")
    await until(lambda: "Evicted: has " in stage.logs("hello"))
    assert "in HOME and TMPDIR, its limit is 8 MiB" in stage.logs("hello")
    await until(lambda: not folder.exists())
    await until(lambda: serves(stage))


async def test_folders_too_deep_to_look_at_end_their_function_and_are_removed(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    folder = Path(orjson.loads((await stage.ask("hello", "/env")).body)["HOME"]).parent
    await stage.ask("hello", "/nest?2500")
    await until(lambda: "Evicted: what it has in HOME and TMPDIR cannot be looked at" in stage.logs("hello"))
    await until(lambda: not folder.exists())
    await until(lambda: serves(stage))


ALLOWED = {
    "write_into_tmpdir": 0, "move_from_home_to_tmpdir": 2, "write_into_tmp": 0, "write_to_null": 0,
    "write_to_stdout": 0, "share_a_lock": 0, "share_memory": 0, "open_a_terminal": 0,
}  # fmt: skip
"""From which version of Landlock on; all of it works without Landlock."""
REFUSED = {
    "read_the_servers_environment": 1, "end_the_server": 6, "make_a_file_in_dev": 1, "write_beside_the_code": 1,
    "shorten_the_code": 3, "delete_the_code": 1,
}  # fmt: skip
"""From which version of Landlock on, whatever the rights are."""


def is_refused(attempt: str, user: int) -> bool:
    """By Landlock, or by rights: one user has none on another's, and root without capabilities few on its own."""
    by_rights = {"make_a_file_in_dev": user != 0, "read_the_servers_environment": user == 0}
    return landlock_version() >= REFUSED[attempt] or user != os.geteuid() or by_rights.get(attempt, False)


async def test_a_function_writes_nowhere_but_in_its_own_folder_and_in_what_is_everybodys() -> None:
    """Not below /tmp, where everybody may write. What is refused depends on the version of Landlock."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        async with staged(folder) as stage:
            await stage.apply("hello")
            await stage.settled("hello")

            async def tried(attempt: str) -> str:
                return str(orjson.loads((await stage.ask("hello", f"/try_to?{attempt}")).body))

            user = int(orjson.loads((await stage.ask("hello", "/limits")).body)["user"])
            for attempt, since in ALLOWED.items():
                works = landlock_version() == 0 or landlock_version() >= since
                assert (await tried(attempt) == "done") is works, attempt
            for attempt in REFUSED:
                refusal = "ermi" in await tried(attempt)  # Permission denied, Operation not permitted
                assert refusal is is_refused(attempt, user), attempt
            left = {path.name for path in (folder / "images" / "program").iterdir()}
            assert left == ({"main.py"} if is_refused("delete_the_code", user) else {"more"})
    finally:
        shutil.rmtree(folder)


async def test_a_port_that_is_never_opened_is_told(tmp_path: Path) -> None:
    async with staged(tmp_path, replace(QUICK, start_seconds=0.5)) as stage:
        mute = stage.image("import time\nprint('I do not listen', flush=True)\ntime.sleep(600)\n", name="mute")
        await stage.apply("hello", image=mute)
        found = await stage.settled("hello", status="False")
        message = condition(found, "ConfigurationsReady")["message"]
        assert "Initial scale was never achieved: nothing listened on 127.0.0.1:$PORT within 0.5 s" in message
        assert "I do not listen" in message
        assert condition(found, "RoutesReady")["reason"] == "RevisionMissing"
        answer = await stage.ask("hello")
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert b"I do not listen" not in answer.body


async def test_functions_that_never_listen_hold_up_no_other(tmp_path: Path) -> None:
    async with staged(tmp_path, replace(QUICK, starts=1)) as stage:
        mute = stage.image("import time\ntime.sleep(600)\n", name="mute")
        for name in ("mute-1", "mute-2"):
            await stage.apply(name, image=mute)
        await stage.apply("hello")
        await stage.settled("hello", seconds=25.0)
        assert (await stage.ask("hello")).status == 200


async def test_an_image_that_is_not_there_is_told(stage: Stage) -> None:
    await stage.apply("hello", image=f"registry/none@sha256:{0:064x}")
    message = condition(await stage.settled("hello", status="False"), "ConfigurationsReady")["message"]
    assert "Unable to fetch image" in message


async def test_a_command_that_does_not_exist_is_told(stage: Stage) -> None:
    reference = stage.image()
    image = stage.images[reference]
    stage.images[reference] = LocalImage(image.digest, image.folder, ("/nowhere/python",), {}, "python")
    await stage.apply("hello", image=reference)
    message = condition(await stage.settled("hello", status="False"), "ConfigurationsReady")["message"]
    assert "exit code 127: cannot start" in message


async def test_no_valid_answer_is_502(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    assert (await stage.ask("hello", "/garbage")).status == 502
    assert (await stage.ask("hello", headers={"x-status": "799"})).status == 502
    assert (await stage.ask("hello", f"/long?{stage.options.answer_bytes + 1}")).status == 502
    assert len((await stage.ask("hello", "/long?1000000")).body) == 1_000_000
