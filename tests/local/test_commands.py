"""The commands of functions against local mode: the local API, its files, and a terminal as a person sits at one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from knative_lambda.api import crd, kinds
from knative_lambda.api.meta import Key
from knative_lambda.cli import delete
from knative_lambda.cluster.base import Conflict
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local import state
from tests import localapi
from tests.local.dev_process import Dev
from tests.unit.cli.conftest import terminal
from tests.unit.cli.terminal import Ended, Terminal

__all__ = ["terminal"]

HELLO = Key("default", "hello")
MANIFEST: dict[str, Any] = {
    "metadata": {"namespace": HELLO.namespace, "name": HELLO.name},
    "spec": {"source": {"type": "inline", "inline": {"code": "x = 1"}}, "runtime": {"language": "python"}},
}
PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x1b[2J"


class Mode:
    """What looks like a running local mode to commands: its API, its lock, its files; a function's server beside."""

    def __init__(self, cluster: MemoryCluster, folder: Path, terminal: Terminal, cache: Path, held: int) -> None:
        self.cluster, self.folder = cluster, folder
        self.reply, self.status, self.kind = b"hello\n", 200, "text/plain"
        self.url = ""
        self.got: dict[str, str] = {}
        """Headers of the last request, names in small letters."""
        self._terminal, self._held = terminal, held
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
            "HOME": str(cache),
            "XDG_CACHE_HOME": str(cache),
            "TERM": "xterm",
        }

    async def handle(self, request: web.Request) -> web.Response:
        self.got = {name.lower(): value for name, value in request.headers.items()}
        return web.Response(body=self.reply, status=self.status, headers={"content-type": self.kind})

    def end(self) -> None:
        """Lets go of its folder."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    async def run(self, *arguments: str) -> Ended:
        """In this process, with pipes."""
        ended = await asyncio.to_thread(self._terminal.run, *arguments)
        return Ended(ended.code, ended.out, ended.err)

    async def sit(self, *arguments: str, typed: str = "") -> Ended:
        """With a terminal for all three streams, whose output is `out`."""
        return await asyncio.to_thread(self._sit, arguments, typed)

    def complete(self, line: str) -> list[str]:
        words = f"kn-lambda {line}"
        asked = {
            "_KN_LAMBDA_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        code = "import sys; sys.argv[0] = 'kn-lambda'; from knative_lambda.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self._environment | asked,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout.split()

    def _sit(self, arguments: tuple[str, ...], typed: str) -> Ended:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "knative_lambda", *arguments]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=self._environment) as process:
            os.close(theirs)
            os.write(ours, typed.encode())
            shown = b"".join(_until_closed(ours))
            code = process.wait(60)
        os.close(ours)
        return Ended(code, shown.decode(errors="replace"), "")


def _until_closed(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # EIO: the last process has gone
            return
        if not chunk:
            return
        yield chunk


@pytest.fixture
async def mode(tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mode]:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    folder = state.default_state("shop")
    held = state.hold(folder)
    cluster = MemoryCluster(clock=SystemClock(), definitions=crd.definitions())
    mode = Mode(cluster, folder, terminal, cache, held)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", mode.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    mode.url = f"http://hello.default.localhost:{runner.addresses[0][1]}"
    async with localapi.served(cluster, folder):
        yield mode
    await runner.cleanup()
    mode.end()


async def ready(mode: Mode, **metadata: Any) -> None:
    await mode.cluster.create(kinds.LAMBDA_FUNCTION, {**MANIFEST, "metadata": {**MANIFEST["metadata"], **metadata}})
    row = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"url": mode.url, "phase": "Ready", "conditions": [row]}
    await mode.cluster.patch(kinds.LAMBDA_FUNCTION, HELLO, {"status": status}, subresource="status")


async def test_the_local_mode_that_runs_is_found_listed_and_described(mode: Mode) -> None:
    await ready(mode)
    listed = await mode.run("list")
    assert (listed.code, listed.err) == (0, "")
    assert listed.out.splitlines()[1].split()[:4] == ["hello", "True", "Ready", mode.url]
    assert json.loads((await mode.run("list", "--local", "-A", "-o", "json")).out)[0]["url"] == mode.url
    described = await mode.run("describe", "hello", "--state-dir", str(mode.folder))
    assert (described.code, described.err) == (0, "")
    assert mode.url in described.out
    assert "Events: none" in described.out


async def test_an_event_about_a_function_is_shown_and_one_about_another_thing_is_not(mode: Mode) -> None:
    for name, kind in (("hello", "LambdaFunction"), ("functions", "FunctionRepository"), ("pod", "Pod")):
        event = {
            "metadata": {"namespace": "default", "name": f"{name}.1"},
            "regarding": {"kind": kind, "namespace": "default", "name": name},
            "eventTime": f"2026-01-01T00:00:0{len(name) % 10}.000000Z",
            "type": "Normal",
            "reason": "Ready",
            "note": "it is",
        }
        await mode.cluster.create(kinds.EVENT, event)
    shown = json.loads((await mode.run("events", "-o", "json")).out)
    assert [(one["kind"], one["name"]) for one in shown] == [
        ("LambdaFunction", "hello"),
        ("FunctionRepository", "functions"),
    ]
    assert [one["name"] for one in json.loads((await mode.run("events", "functions", "-o", "json")).out)] == [
        "functions"
    ]


async def test_a_reply_goes_through_a_pipe_byte_by_byte_and_a_failure_is_exit_code_1(mode: Mode) -> None:
    await ready(mode)
    done = await mode.run("invoke", "hello", "--data", "x")
    assert (done.code, done.out) == (0, "hello\n")
    mode.status, mode.reply = 503, b"busy"
    failed = await mode.run("invoke", "hello")
    assert (failed.code, failed.out, failed.err.startswith("503 Service Unavailable, 4 bytes")) == (1, "busy", True)
    mode.status = 400
    assert (await mode.run("invoke", "hello")).code == 1
    mode.status = 503
    told = json.loads((await mode.run("invoke", "hello", "-o", "json")).out)
    assert (told["status"], told["body"], told["seconds"] > 0) == (503, "busy", True)
    mode.reply = b"\xff\x00"
    assert json.loads((await mode.run("invoke", "hello", "-o", "json")).out)["body_base64"] == "/wA="


async def test_headers_of_the_person_win_and_an_events_attributes_are_headers(mode: Mode) -> None:
    await ready(mode)
    await mode.run("invoke", "hello", "--data", "{}", "-H", "content-type: text/x-mine", "-H", "X-Trace: 7")
    assert (mode.got["content-type"], mode.got["x-trace"]) == ("text/x-mine", "7")
    await mode.run("invoke", "hello", "--type", "order.placed", "--id", "e-7", "--data", "{}")
    assert (mode.got["ce-type"], mode.got["ce-id"], mode.got["content-type"]) == (
        "order.placed",
        "e-7",
        "application/json",
    )


async def test_who_calls_a_function_that_is_not_ready_is_told_that_an_older_one_may_answer(mode: Mode) -> None:
    await ready(mode)
    row = {"type": "Ready", "status": "False", "reason": "BuildFailed", "message": "no such module"}
    status = {"conditions": [{**row, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    await mode.cluster.patch(kinds.LAMBDA_FUNCTION, HELLO, {"status": status}, subresource="status")
    done = await mode.run("invoke", "hello")
    assert (done.code, done.out) == (0, "hello\n")
    assert "default/hello is not ready (" in done.err
    assert "an older revision may answer" in done.err


async def test_functions_and_events_of_another_namespace_are_shown_to_who_asks_for_them(mode: Mode) -> None:
    await ready(mode)
    elsewhere = {**MANIFEST, "metadata": {"namespace": "shop", "name": "orders"}}
    await mode.cluster.create(kinds.LAMBDA_FUNCTION, elsewhere)
    event = {
        "metadata": {"namespace": "shop", "name": "orders.1"},
        "regarding": {"kind": "LambdaFunction", "namespace": "shop", "name": "orders"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Building", "note": "Job orders-1",
    }  # fmt: skip
    await mode.cluster.create(kinds.EVENT, event)

    async def shown(*arguments: str) -> list[str]:
        return [one["name"] for one in json.loads((await mode.run(*arguments, "-o", "json")).out)]

    assert await shown("list") == ["hello"]
    assert await shown("list", "-n", "shop") == ["orders"]
    assert sorted(await shown("list", "-A")) == ["hello", "orders"]
    assert await shown("events") == []
    assert await shown("events", "shop/orders") == ["orders"]
    assert await shown("events", "-A") == ["orders"]


async def test_another_function_of_the_same_name_is_not_deleted_in_place_of_the_one_that_was_shown(mode: Mode) -> None:
    await ready(mode)
    shown = await mode.cluster.get(kinds.LAMBDA_FUNCTION, HELLO)
    await mode.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)
    await ready(mode)
    with pytest.raises(Conflict):
        await delete._delete(mode.cluster, HELLO, shown)
    await mode.cluster.get(kinds.LAMBDA_FUNCTION, HELLO)


async def test_a_terminal_is_spared_what_is_binary_and_what_moves_its_cursor(mode: Mode) -> None:
    await ready(mode)
    mode.reply, mode.kind = PICTURE, "image/png"
    binary = await mode.sit("invoke", "hello")
    assert binary.code == 0
    assert "the reply is binary (image/png)" in binary.out
    assert "> FILE" in binary.out
    assert "PNG" not in binary.out.replace("image/png", "")
    mode.reply, mode.kind = b"a\x1b[2Jb", "text/plain"
    text = await mode.sit("invoke", "hello")
    assert "a\\x1b[2Jb" in text.out
    mode.reply = b"long " * 300_000
    long = await mode.sit("invoke", "hello")
    assert "the first 1 MiB are shown" in long.out
    assert len(long.out) < 1_200_000


async def test_logs_are_those_of_the_files_and_of_former_instances_too(mode: Mode) -> None:
    await ready(mode)
    nothing = await mode.run("logs", "hello")
    assert (nothing.code, nothing.out) == (0, "")
    assert "no instance has a log; it is scaled to zero, or printed nothing" in nothing.err
    folder = state.function_logs(mode.folder, HELLO)
    folder.mkdir(parents=True)
    (folder / "hello-00001-abcde.log").write_bytes(b"one\n\x1b[31mtwo\n")
    done = await mode.run("logs", "hello", "--tail", "1")
    assert (done.code, done.out, done.err) == (0, "\x1b[31mtwo\n", "==> hello-00001-abcde\n")
    assert "\\x1b[31mtwo" in (await mode.sit("logs", "hello")).out
    lines = (await mode.run("logs", "hello", "-o", "json")).out.splitlines()
    assert json.loads(lines[0]) == {"origin": "hello-00001-abcde", "line": "one"}


async def test_the_end_of_a_failed_builds_log_is_kept_in_the_status(mode: Mode) -> None:
    await ready(mode)
    status = {"buildStatus": {"jobName": "hello-0123456789", "error": "no matching distribution"}}
    await mode.cluster.patch(kinds.LAMBDA_FUNCTION, HELLO, {"status": status}, subresource="status")
    kept = await mode.run("logs", "hello", "--build")
    assert (kept.code, kept.out) == (0, "no matching distribution\n")
    build = state.build_logs(mode.folder) / "default" / "hello-0123456789.log"
    build.parent.mkdir(parents=True)
    build.write_text("collecting\nno matching distribution\n")
    whole = await mode.run("logs", "hello", "--build")
    assert (whole.out, whole.err) == ("collecting\nno matching distribution\n", "==> hello-0123456789\n")


async def test_a_reader_of_a_following_command_may_go_away(mode: Mode) -> None:
    await ready(mode)
    folder = state.function_logs(mode.folder, HELLO)
    folder.mkdir(parents=True)
    (folder / "hello-00001-abcde.log").write_bytes(b"one\n")
    command = [sys.executable, "-m", "knative_lambda", "logs", "hello", "-f", "--state-dir", str(mode.folder)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"one\n"
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    with (folder / "hello-00001-abcde.log").open("ab") as log:
        log.write(b"two\n")
    assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize("command", [("events",), ("logs", "hello")])
async def test_who_follows_a_local_mode_that_ends_is_told_so(mode: Mode, command: tuple[str, ...]) -> None:
    await ready(mode)
    following = asyncio.create_task(mode.run(*command, "-f"))
    await asyncio.sleep(1)
    assert not following.done()
    mode.end()
    ended = await asyncio.wait_for(following, 20)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"kn-lambda: error: the local mode with the state folder {mode.folder} has ended\n"


async def test_ctrl_c_ends_a_following_command_without_a_word(mode: Mode) -> None:
    await ready(mode)
    command = [sys.executable, "-m", "knative_lambda", "events", "-f", "--state-dir", str(mode.folder)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    event = {
        "metadata": {"namespace": "default", "name": "hello.1"},
        "regarding": {"kind": "LambdaFunction", "namespace": "default", "name": "hello"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Normal",
        "reason": "Ready",
        "note": "it is",
    }
    await mode.cluster.create(kinds.EVENT, event)
    assert process.stdout is not None
    assert b"function default/hello Ready: it is" in await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_deleting_asks_first_and_says_when_git_owns_it(mode: Mode) -> None:
    await ready(mode, labels={"lambda.knative.io/repository": "functions"})
    kept = await mode.sit("delete", "hello", typed="n\n")
    assert kept.code == 1
    assert "repository default/functions makes it again with its next sync" in kept.out
    await mode.cluster.get(kinds.LAMBDA_FUNCTION, HELLO)
    gone = await mode.sit("delete", "hello", typed="y\n")
    assert (gone.code, "function default/hello is being deleted" in gone.out) == (0, True)
    assert (await mode.cluster.list(kinds.LAMBDA_FUNCTION)).items == []


async def test_the_shell_completes_names_of_functions(mode: Mode) -> None:
    await ready(mode)
    assert await asyncio.to_thread(mode.complete, "invoke he") == ["hello"]
    assert await asyncio.to_thread(mode.complete, "invoke orders") == []
    assert await asyncio.to_thread(mode.complete, f"logs --state-dir {mode.folder} ") == ["hello"]
    assert await asyncio.to_thread(mode.complete, "describe -n empty he") == []
    assert await asyncio.to_thread(mode.complete, "describe --kubeconfig missing he") == []


@pytest.mark.parametrize("file", ["letters.db", "events.db"])
def test_state_folder_of_a_newer_version_is_told_and_not_touched(tmp_path: Path, terminal: Terminal, file: str) -> None:
    terminal.run("init", "functions/hello")
    newer = tmp_path / "state" / file
    newer.parent.mkdir()
    with contextlib.closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = newer.read_bytes()
    ended = terminal.run("dev", "functions", "--state-dir", "state", "--port", "0", "--json")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"state/{file} was written by a newer kn-lambda" in ended.err
    assert newer.read_bytes() == before


def test_functions_that_are_begun_run_and_answer_and_their_logs_are_found(tmp_path: Path, terminal: Terminal) -> None:
    assert terminal.run("init", "functions/hello").code == 0
    assert terminal.run("init", "functions/thumbs", "--runtime", "nodejs").code == 0
    assert terminal.run("validate", ".").out == "2 functions valid, 0 findings\n"
    main = tmp_path / "functions/hello/main.py"
    main.write_text(main.read_text() + "\n\nprint('loaded')\n")
    with Dev(tmp_path / "functions", tmp_path / "state") as dev:
        here = ("--state-dir", str(dev.state))
        for name in ("hello", "thumbs"):
            dev.ready(name)
            replied = terminal.run("invoke", name, *here, "--data", "{}")
            assert (replied.code, json.loads(replied.out)) == (0, {"message": f"Hello from {name}"})
            assert replied.err.startswith("200 OK, ")
            as_event = terminal.run("invoke", name, *here, "--type", "com.example.thing", "--data", "{}")
            assert (as_event.code, json.loads(as_event.out)) == (0, {"message": f"Hello from {name}"})
        assert [one["ready"] for one in terminal.run("list", *here, "-o", "json").json] == ["True", "True"]
        printed = terminal.run("logs", "hello", *here)
        assert "loaded" in printed.out.splitlines()
        built = terminal.run("logs", "hello", "--build", *here)
        assert built.err.startswith("==> hello-")
        assert "made sha256:" in built.out
        about = terminal.run("events", "hello", *here, "-o", "json").json
        assert {"Building", "Ready"} <= {event["reason"] for event in about}
