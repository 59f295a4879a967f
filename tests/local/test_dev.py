"""A newcomer's first minutes with `kn-lambda dev`: real functions, real saves, no cluster."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from knative_lambda.events import sqlite_letters
from knative_lambda.local.messaging import backlog
from tests.local.dev_process import COMMAND, Dev, copy_examples, environment
from tests.local.stage import alive

FAILING = 'def handler(event):\n    raise RuntimeError("the warehouse is closed")\n'
MENDED = 'def handler(event):\n    print(f"order taken: {event.data}", flush=True)\n'
FORKING = """
import os, subprocess
child = subprocess.Popen(["sleep", "600"])
daemon = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
with open(os.path.join(os.environ["TMPDIR"], "pids"), "w") as file:
    file.write(f"{child.pid} {daemon.pid}")
"""
READY_ROW = re.compile(r"hello-python\s*│ Ready")
ORDER = "com.example.order.placed"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: what one test built, the next one finds."""
    return tmp_path_factory.mktemp("dev") / "state"


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    return copy_examples(tmp_path)


@pytest.fixture
def dev(examples: Path, state: Path) -> Iterator[Dev]:
    with Dev(examples, state, "--backoff", "0.02") as running:
        yield running


def processes_of(state: Path) -> list[str]:
    """Command lines that name the state folder."""
    return [line for line in commands() if str(state) in line and " dev " not in line]


def commands() -> list[str]:
    """Of all processes."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_whole_story_from_the_first_start_to_a_replayed_dead_letter(dev: Dev, examples: Path) -> None:
    for name in ("hello-python", "hello-nodejs", "order-events", "inline-greeting"):
        dev.ready(name)
    assert dev.get("hello-python").text.strip() == "Hello from Python"
    port = dev.url.rpartition(":")[2]
    by_host = httpx.get(f"{dev.url}/", headers={"host": f"hello-nodejs.default.localhost:{port}"}, timeout=30)
    assert by_host.text.strip() == "Hello from Node.js"

    assert dev.send(ORDER, "order-1", {"number": 1}) == 202
    dev.wait_for("delivery", what="delivered", id="order-1", function="default/order-events")

    saved = dev.now()
    (examples / "functions" / "order-events" / "main.py").write_text(FAILING)
    dev.ready("order-events", after=saved)
    assert dev.send(ORDER, "order-2", {"number": 2}) == 202
    dev.wait_for("delivery", what="dead", id="order-2")
    listed = dev.command("dlq", "list", "--state-dir", str(dev.state))
    assert re.search(r"default/order-events\s+1\b", listed.stdout), listed
    shown = dev.command("dlq", "show", "default/order-events", "--state-dir", str(dev.state))
    assert "order-2" in shown.stdout

    saved = dev.now()
    (examples / "functions" / "order-events" / "main.py").write_text(MENDED)
    dev.ready("order-events", after=saved)
    replayed = dev.command("dlq", "replay", "default/order-events", "--state-dir", str(dev.state))
    assert (replayed.returncode, replayed.stdout.strip()) == (0, "1 delivered, 0 left"), replayed
    logs = dev.command("logs", "order-events", "--state-dir", str(dev.state))
    assert "order taken: {'number': 2}" in logs.stdout, logs

    assert dev.stop() == 0
    assert processes_of(dev.state) == []


def test_save_that_breaks_a_function_leaves_the_old_one_serving_and_says_why(dev: Dev, examples: Path) -> None:
    dev.ready("hello-python")
    saved = dev.now()
    (examples / "functions" / "hello-python" / "main.py").write_text("def handler(request:\n")
    failed = dev.wait_for("function", name="hello-python", phase="Failed", after=saved)
    assert "SyntaxError" in failed["message"]
    assert dev.get("hello-python").text.strip() == "Hello from Python"


def test_deleted_function_is_gone_and_the_others_stay(dev: Dev, examples: Path) -> None:
    dev.ready("hello-python")
    dev.ready("hello-nodejs")
    shutil.rmtree(examples / "functions" / "hello-nodejs")
    dev.wait_for("deleted", name="hello-nodejs")
    assert dev.get("hello-nodejs").status_code == 404
    assert dev.get("hello-python").status_code == 200


def test_bad_function_file_is_told_by_file_and_line(dev: Dev, examples: Path) -> None:
    dev.ready("hello-python")
    (examples / "functions" / "hello-python" / "function.yaml").write_text("spec:\n  runtime:\n    language: pyton\n")
    told = dev.wait_for("problem")
    assert "functions/hello-python/function.yaml:3" in told["message"]
    assert "python" in told["message"]


def test_kill_leaves_neither_process_nor_lock_and_keeps_dead_letters_and_what_is_built(
    dev: Dev, examples: Path
) -> None:
    code = examples / "functions" / "order-events" / "main.py"
    dev.ready("order-events")
    saved = dev.now()
    code.write_text(FAILING + FORKING)
    dev.ready("order-events", after=saved)
    assert dev.send(ORDER, "order-of-the-dead", {"number": 3}) == 202
    dev.wait_for("delivery", what="dead", id="order-of-the-dead")
    [pids] = dev.state.glob("processes/instances/*/tmp/pids")
    children = [int(pid) for pid in pids.read_text().split()]
    assert all(map(alive, children))
    dev.process.kill()
    dev.process.wait(10)
    killed = time.time()
    (dev.state / "repository.git" / "index.lock").touch()
    with Dev(examples, dev.state) as again:
        again.ready("order-events")
        again.ready("hello-nodejs")
        assert not any(map(alive, children))
        shown = again.command("dlq", "show", "default/order-events", "--state-dir", str(dev.state))
        assert "order-of-the-dead" in shown.stdout
        assert again.stop(signal.SIGTERM) == 0
    assert processes_of(dev.state) == []
    logs = [log.read_text() for log in (dev.state / "builds").rglob("*.log") if log.stat().st_mtime > killed]
    assert any("made sha256:" in log for log in logs)
    assert not [log for log in logs if re.search(r"^# .*(npm ci|pip install)", log, re.MULTILINE)]


def test_saves_while_an_older_one_is_built_end_with_the_newest_code(dev: Dev, examples: Path, tmp_path: Path) -> None:
    folder, begun = examples / "functions" / "hello-nodejs", tmp_path / "begun"
    installing = f"sleep 600.{os.getpid()}"

    def save(word: str, package: str) -> None:
        (folder / "index.js").write_text(f"exports.handler = () => '{word}';\n")
        (folder / "package.json").write_text(package)

    dev.ready("hello-nodejs")
    first = dev.now()
    save("first", json.dumps({"scripts": {"postinstall": f"touch {begun}; {installing}"}}))
    until(begun.exists)
    until(lambda: installing in commands())
    second = dev.now()
    save("second", "{}")
    dev.wait_for("function", name="hello-nodejs", phase="Building", after=second)
    save("third", "{}")
    answers: list[str] = []
    until(lambda: heard(answers, dev.get("hello-nodejs").text) == "third")
    until(lambda: installing not in commands())
    dev.ready("hello-nodejs", after=second)
    assert heard(answers, dev.get("hello-nodejs").text) == "third"
    assert answers[1:] in (["second", "third"], ["third"]), "never an older one after a newer one"
    assert "first" not in answers
    failed = [line for line in list(dev.lines())[first:] if line.get("phase") == "Failed"]
    assert failed == [], "a build that nobody wants any more is no failure"


def heard(answers: list[str], answer: str) -> str:
    """The answer, kept when it is another one than the last."""
    if answers[-1:] != [answer]:
        answers.append(answer)
    return answer


def test_function_that_asks_for_another_version_is_told_of_in_the_terminal_and_in_its_events(
    dev: Dev, examples: Path
) -> None:
    here = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    other = "20" if here.startswith("v24.") else "24"
    dev.ready("hello-nodejs")
    saved = dev.now()
    (examples / "functions" / "hello-nodejs" / "function.yaml").write_text(
        f'spec:\n  runtime: {{language: nodejs, version: "{other}"}}\n'
    )
    told = dev.wait_for("remark", name="hello-nodejs", after=saved)
    assert told["message"] == f"the function asks for nodejs {other}, this machine runs it with {here}"
    dev.ready("hello-nodejs", after=saved)
    described = dev.command("describe", "hello-nodejs", "--state-dir", str(dev.state))
    assert re.search(rf"Warning\s+OtherVersion\s+the function asks for nodejs {other}", described.stdout), described
    assert not [line for line in list(dev.lines())[:saved] if line["kind"] == "remark" and line["name"]]


def test_state_folder_of_an_older_version_serves_on(examples: Path, tmp_path: Path) -> None:
    """Images are of another layout, files of another format, and records lack what is written today."""
    state = tmp_path / "old"
    (state / "images" / "images" / "whole-once").mkdir(parents=True)
    (state / "images" / "layers" / "whole-once").mkdir(parents=True)
    (state / "images" / "version").write_text("0")
    (state / "processes" / "instances" / "hello-00001-old").mkdir(parents=True)
    record = {"pid": os.getpid(), "started": 1, "boot": "before"}
    (state / "processes" / "instances" / "hello-00001-old" / "process.json").write_text(json.dumps(record))
    for file, steps in (("letters.db", sqlite_letters.STEPS), ("events.db", backlog.STEPS)):
        with contextlib.closing(sqlite3.connect(state / file)) as connection:
            for statement in steps[0]:
                connection.execute(statement)
            connection.execute("PRAGMA user_version = 1")
            connection.commit()
    for name in ("hello-nodejs", "order-events"):
        shutil.rmtree(examples / "functions" / name)
    with Dev(examples, state) as dev:
        dev.ready("hello-python")
        assert dev.get("hello-python").text.strip() == "Hello from Python"
        listed = dev.command("dlq", "list", "--state-dir", str(state))
        assert listed.returncode == 0, listed
        assert dev.stop() == 0
    left = {path.name for path in state.glob("images/*/*")} | {
        path.name for path in state.glob("processes/instances/*")
    }
    assert not left & {"whole-once", "hello-00001-old"}


def test_second_one_on_the_same_state_and_a_taken_port_are_told(dev: Dev, examples: Path, tmp_path: Path) -> None:
    port = dev.url.rpartition(":")[2]
    twice = dev.command("dev", str(examples), "--state-dir", str(dev.state), "--port", "0")
    assert twice.returncode == 2
    assert "runs already" in twice.stderr
    taken = dev.command("dev", str(examples), "--state-dir", str(tmp_path / "other"), "--port", port)
    assert taken.returncode == 2
    assert f"port {port}" in taken.stderr
    assert "--port" in taken.stderr


@pytest.mark.parametrize("bare", [False, True], ids=["tree", "bare"])
def test_commit_is_what_counts_without_watching(examples: Path, state: Path, tmp_path: Path, *, bare: bool) -> None:
    def git(*arguments: str) -> None:
        author = ("-c", "user.name=dev", "-c", "user.email=dev@localhost")
        subprocess.run(["git", "-C", str(examples), *author, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "-m", "first")
    place = tmp_path / "bare.git" if bare else examples
    if bare:
        git("clone", "--quiet", "--bare", ".", str(place))
    with Dev(place, state, *(() if bare else ("--no-watch",))) as dev:
        dev.ready("hello-python")
        (examples / "functions" / "hello-python" / "main.py").write_text('def handler(request):\n    return "second"\n')
        time.sleep(1.0)
        assert dev.get("hello-python").text.strip() == "Hello from Python"
        saved = dev.now()
        git("commit", "--quiet", "--all", "-m", "second")
        if bare:
            git("push", "--quiet", str(place), "HEAD")
        dev.ready("hello-python", after=saved)
        assert dev.get("hello-python").text.strip() == "second"
        assert dev.stop(signal.SIGHUP) == 0, "as when its terminal is closed"
    assert processes_of(state) == []


def test_terminal_shows_a_table_that_lives(examples: Path, state: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "dev", str(examples), "--state-dir", os.path.relpath(state), "--port", "0"]
    shown = ""
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment() | {"TERM": "xterm", "COLUMNS": "120"}
    ) as process:
        os.close(theirs)
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not READY_ROW.search(plain(shown)):
                if select.select([ours], [], [], 0.5)[0]:
                    shown += os.read(ours, 65536).decode(errors="replace")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(ours)
    assert READY_ROW.search(plain(shown)), plain(shown)[-3000:]
    columns = ("function", "state", "revision", "processes", "url", "last event")
    assert re.search(r"┃ " + r"\s+┃ ".join(columns) + r"\s+┃", plain(shown)), plain(shown)[-3000:]
    assert re.search(r"hello-python\s*│ Ready\s*│ [0-9a-f]{8}\s*│ [0-9]+\s*│ http://hello-python", plain(shown))
    assert "event build.completed hello-python" in plain(shown)


def test_reader_of_its_lines_may_go_away(examples: Path, state: Path) -> None:
    """As in `kn-lambda dev | head -1`."""
    command = [*COMMAND, "dev", str(examples), "--state-dir", str(state), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b" at http://127.0.0.1:" in process.stdout.readline()
        process.stdout.close()
        try:
            assert process.wait(60) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()
    assert processes_of(state) == []


def plain(shown: str) -> str:
    """What a terminal shows, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
