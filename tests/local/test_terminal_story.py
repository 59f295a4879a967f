"""The README's first minute in a terminal: the table, curl, an event, a dead letter, its replay, and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.local.dev_process import COMMAND, READY_SECONDS, copy_examples, environment

ROOT = Path(__file__).parents[2]
FIRST_MINUTE = (ROOT / "README.md").read_text().partition("## See it in a minute")[2].partition("### ")[0]
CURL, SEND, LOGS = re.findall(r"^(?:curl|\.venv)(?:.*\\\n)*.*$", FIRST_MINUTE, re.MULTILINE)
[REPLAY] = re.findall(r"`\.venv/bin/(kn-lambda dlq replay [^`]+)`", FIRST_MINUTE)


class Screen:
    """A terminal with one command in it, which may be typed at."""

    def __init__(self, *command: str) -> None:
        self._shown = ""
        self.pid, self._keys = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment() | {"TERM": "xterm-256color", "COLUMNS": "130", "LINES": "40"})
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.text()[after:]):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} was not shown:\n{self.text()[-4000:]}")

    def now(self) -> int:
        """What is shown later comes behind it."""
        return len(self.text())

    def text(self) -> str:
        """Without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._shown)

    def interrupt(self) -> int:
        """Types Ctrl-C; the exit code."""
        os.write(self._keys, b"\x03")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def _read(self) -> None:
        try:
            while chunk := os.read(self._keys, 65536):
                self._shown += chunk.decode(errors="replace")
        except OSError:  # EIO: whoever wrote has ended
            return


def test_first_minute_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    orders = copy_examples(tmp_path) / "functions" / "order-events" / "main.py"
    works = orders.read_text()
    screen = Screen(*COMMAND, "dev", str(orders.parents[2]), "--port", "0", "--backoff", "0.02")
    try:
        port = screen.wait_for(r"at http://127\.0\.0\.1:(\d+)")[1]
        for name in ("hello-python", "hello-nodejs", "order-events"):
            screen.wait_for(rf"{name}\s*│ Ready\s*│ [0-9a-f]{{8}} │ \d+\s*│ http://{name}")
        started = {one.pid for one in psutil.Process(screen.pid).children(recursive=True)}
        assert typed(CURL, port) == "Hello from Python\n"
        assert typed(CURL.replace("python", "nodejs"), port) == "Hello from Node.js\n"
        typed(SEND, port)
        screen.wait_for(r"com\.example\.order\.placed 1: delivered to order-events")
        logged = typed(LOGS, port)
        assert logged.startswith("order received: "), "the function's server says nothing of its own"
        assert "'data': {'number': 1}}" in logged

        saved = screen.now()
        orders.write_text("def handler(event):\n    raise RuntimeError('closed')\n")
        screen.wait_for("event status.updated order-events Ready", after=saved)
        typed(SEND.replace("ce-id: 1", "ce-id: 2"), port)
        screen.wait_for(r"order\.placed 2: not taken by order-events: HTTP 500, attempt 6", after=saved)
        screen.wait_for(r"order\.placed 2: a dead letter of order-events", after=saved)

        saved = screen.now()
        orders.write_text(works)
        screen.wait_for("event status.updated order-events Ready", after=saved)
        assert typed(REPLAY, port) == "1 delivered, 0 left\n"
        started |= {one.pid for one in psutil.Process(screen.pid).children(recursive=True)}
        assert started
        assert screen.interrupt() == 0
        assert [pid for pid in started if psutil.pid_exists(pid)] == []
    finally:
        if psutil.pid_exists(screen.pid):
            screen.kill()


def typed(command: str, port: str) -> str:
    """What a shell prints, in another terminal of the same person."""
    there = command.replace("8080", port).replace(".venv/bin/kn-lambda", "kn-lambda")
    path = f"{Path(COMMAND[0]).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", there],
        env=environment() | {"PATH": path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
