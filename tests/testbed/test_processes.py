"""No process of the bed outlives its owner for long, and none is ended that is not its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.testbed import assets, processes
from tests.testbed.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path


_OWNER = """
import subprocess, sys, time
from tests.testbed.processes import Run
run = Run.begin("killed")
run.start("sleeper", ["sleep", "600"])
print(run.folder, flush=True)
time.sleep(600)
"""


def owner_of_a_run() -> tuple[subprocess.Popen[str], str]:
    """Another process that owns a run with one process in it; returns it and the run's folder."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True, cwd=assets.REPOSITORY_ROOT
    )
    assert owner.stdout is not None
    return owner, owner.stdout.readline().strip()


def test_killed_owner_is_cleaned_up_by_the_next_start() -> None:
    owner, name = owner_of_a_run()
    with owner:
        folder = processes.root() / name.rpartition("/")[2]
        (left,) = processes.processes_of(folder)
        owner.kill()
    assert processes.processes_of(folder) == [left], "nobody ended it yet"

    with processes.Run.begin("next"):
        assert not left.alive
        assert not folder.exists()


def test_run_of_a_living_owner_is_left_alone() -> None:
    owner, name = owner_of_a_run()
    with owner:
        folder = processes.root() / name.rpartition("/")[2]
        with processes.Run.begin("next"):
            assert len(processes.processes_of(folder)) == 1
        owner.terminate()
    assert not folder.exists(), "SIGTERM ends a run through its owner's exit"


def test_reused_process_id_is_not_taken_for_the_recorded_process() -> None:
    mine = processes.Identity(os.getpid(), processes.start_time(os.getpid()))
    assert mine.alive
    assert not processes.Identity(mine.pid, "another boot:1").alive


def test_process_that_slipped_out_of_its_group_ends_with_the_run(tmp_path: Path) -> None:
    with processes.Run.begin("escape") as run:
        escape = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(600)"
        server = run.start("escaping", [sys.executable, "-c", escape])
        server.wait(10)
        (escaped,) = processes.processes_of(run.folder)
    assert not escaped.alive


@pytest.mark.parametrize(
    ("version", "reason"),
    [((1, 27, 0), "too new"), ((1, 25, 9), "too old"), ((1, 26, 4), "too old"), (None, "no Go on PATH")],
)
def test_unfit_go_is_refused_with_the_reason(version: tuple[int, ...] | None, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        assets.refuse_unfit(version)


def test_free_ports_are_all_different_and_free() -> None:
    ports = {processes.free_port() for _ in range(50)}
    assert len(ports) == 50
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports.pop()))


def test_server_that_exits_is_told_with_its_log() -> None:
    with processes.Run.begin("failing") as run:
        server = run.start("failing", [sys.executable, "-c", "print('no such disk'); raise SystemExit(3)"])
        with pytest.raises(RuntimeError, match=r"(?s)failing exited with status 3.*no such disk"):
            server.await_ready(lambda: False, timeout=10)


_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


def test_hanging_server_is_stopped_after_its_grace() -> None:
    with processes.Run.begin("stubborn") as run:
        server = run.start("stubborn", [sys.executable, "-c", _STUBBORN])
        server.await_ready(lambda: "up" in server.tail(), timeout=10)
        began = time.monotonic()
        server.stop(grace=0.3)
        assert not server.running
        assert time.monotonic() - began >= 0.3
