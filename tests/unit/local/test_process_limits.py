"""What a process is started with, and who may be ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from knative_lambda.local.serving import appetite, proc, processes, variables
from knative_lambda.local.serving.limits import DATA_ROOM, DEFAULT_SCRATCH, Limits, mark
from knative_lambda.local.serving.ports import FIRST, LAST, Ports, is_free
from knative_lambda.local.serving.processes import LAUNCHER, Launch
from knative_lambda.local.serving.processors import ALL, Part, Processors
from knative_lambda.local.serving.users import Users, closed_to_others

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are read from /proc")


def sleeping(**environment: str) -> subprocess.Popen[bytes]:
    """Already asleep: just after its start a process has neither environment nor memory."""
    child = subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True)
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S" or not _named(child.pid):
        time.sleep(0.001)
    return child


def _named(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0060\x00"


def launch(folder: Path, *command: str, processors: Part = ALL, **environment: str) -> str:
    """What a process prints that launcher became."""
    order = Launch(command, environment, folder, Limits(0, DEFAULT_SCRATCH, 0, 100_000, processors=processors))
    fields = "\0".join(processes.orders(order, parent=os.getpid())).encode()
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCHER)], input=fields, capture_output=True, check=False, timeout=20, env={}
    )
    return (done.stdout + done.stderr).decode() + f"{done.returncode}"


def test_a_process_gets_command_environment_and_folder_to_the_letter(tmp_path: Path) -> None:
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['A'], os.getcwd(), sys.stdin.read()]))"
    said = launch(tmp_path, sys.executable, "-c", code, "", "a b\n", "ü", A="=x=\n")
    assert json.loads(said.removesuffix("0")) == [["", "a b\n", "ü"], "=x=\n", str(tmp_path.resolve()), ""]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process to some processors")
def test_a_process_runs_on_the_processors_that_it_is_given(tmp_path: Path) -> None:
    tell, ours = "import os; print(sorted(os.sched_getaffinity(0)))", sorted(os.sched_getaffinity(0))
    last = len(ours) - 1
    for part, given in {Part(0, 1): ours[:1], Part(last, 1): ours[-1:], ALL: ours, Part(1, last + 1): ours}.items():
        assert launch(tmp_path, sys.executable, "-c", tell, processors=part) == f"{given}\n0"


def test_processors_are_shared_only_when_there_are_not_enough() -> None:
    processors = Processors(4)
    first, pair = processors.take(1), processors.take(2)
    assert (first, pair, processors.take(1)) == (Part(0, 1), Part(1, 2), Part(3, 1))
    assert processors.take(1) == Part(0, 1)  # there are not enough
    processors.give_back(pair)
    assert [processors.take(1).first for _ in range(2)] == [1, 2]  # not in turn, for 3 and 0 are in use


def test_processors_that_are_given_back_are_handed_out_again_but_in_turn() -> None:
    processors = Processors(3)
    taken = [processors.take(1) for _ in range(3)]
    processors.give_back(taken[1])
    assert processors.take(1) == taken[1]  # the only free one
    in_turn, rested = [], Processors(3)
    for _ in range(4):  # one after the other, each alone
        part = rested.take(1)
        in_turn.append(part.first)
        rested.give_back(part)
    assert in_turn == [0, 1, 2, 0]


def test_who_asks_for_all_processors_gets_all() -> None:
    assert [Processors(4).take(count) for count in (0, 4, 9)] == [ALL, ALL, ALL]
    assert Processors(0).take(1) == ALL
    alone = Processors(1)
    assert alone.take(1) == ALL
    alone.give_back(ALL)


def test_a_command_or_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert launch(tmp_path, "/no/such/program").startswith("cannot start: ")
    assert launch(tmp_path / "none", sys.executable).endswith("127")


def test_orders_that_were_cut_off_are_not_followed(tmp_path: Path) -> None:
    order = Launch(("/bin/echo", "followed"), {"A": "1"}, tmp_path, Limits(0, DEFAULT_SCRATCH, 0))
    fields = list(processes.orders(order, parent=os.getpid()))
    for length in range(len(fields)):
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(LAUNCHER)], input="\0".join(fields[:length]).encode(), capture_output=True,
            check=False, timeout=20, env={},
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (127, b"")


def test_limits_are_those_of_the_function_with_room() -> None:
    limits = Limits(memory=64 << 20, scratch=1000, tasks=10, others=500).resource_limits()
    assert limits["RLIMIT_DATA"] == (64 << 20) + DATA_ROOM
    assert (limits["RLIMIT_FSIZE"], limits["RLIMIT_NPROC"], limits["RLIMIT_CORE"]) == (1000, 520, 0)
    assert "RLIMIT_DATA" not in Limits(0, 1000, 10).resource_limits()


def test_nothing_in_the_environment_outdoes_the_server(tmp_path: Path) -> None:
    identity = variables.Identity("fn", "fn-00001", 20_001)
    given = {"HOME": "/evil", "TMPDIR": "/evil", "PATH": "/mine", "X": "function"}
    made = variables.environment(identity, image={"X": "image", "Y": "image"}, function=given, folder=tmp_path)
    assert made == {
        "PATH": "/mine", "X": "function", "Y": "image", "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"),
        "PORT": "20001", "K_SERVICE": "fn", "K_CONFIGURATION": "fn", "K_REVISION": "fn-00001",
    }  # fmt: skip


def test_living_instances_have_different_marks() -> None:
    neighbours = [{mark(port) for _ in range(1000)} for port in (FIRST, FIRST + 1, LAST)]
    assert all(4096 <= each < 819_200 for marks in neighbours for each in marks)
    assert len(set().union(*neighbours)) == sum(map(len, neighbours))


@LINUX
async def test_users_are_handed_out_once_and_none_who_is_busy(tmp_path: Path) -> None:
    nobody = next(user for user in range(61_184, 65_519) if user not in proc.users())
    users = Users(tmp_path, remark=print, users=[os.geteuid(), nobody])
    assert await users._stranger() == nobody
    with pytest.raises(OSError, match="no user of its own"):
        await users._stranger()
    users.give_back(nobody)
    assert await users._stranger() == nobody


def test_ports_are_free_and_nobody_elses() -> None:
    ports = Ports()
    taken = {ports.take() for _ in range(50)}
    assert len(taken) == 50
    assert all(FIRST <= port <= LAST and is_free(port) for port in taken)


@LINUX
def test_a_process_is_known_by_its_start_and_its_home(tmp_path: Path) -> None:
    with sleeping(HOME=str(tmp_path)) as child:
        found = proc.look(child.pid)
        assert found is not None
        assert (found.session, found.threads) == (child.pid, 1)
        assert proc.home_of(child.pid) == str(tmp_path)
        assert proc.private(child.pid) > 0
        assert proc.end_all(lambda one: proc.home_of(one.pid) == str(tmp_path)) == 1
    assert proc.look(child.pid) is None


@LINUX
def test_only_what_was_written_down_or_has_our_home_is_ended(tmp_path: Path) -> None:
    folder = tmp_path / "instances"
    (folder / "one").mkdir(parents=True)
    (folder / "broken").mkdir()
    (folder / "broken" / processes.RECORD).write_text("no json")
    with (
        sleeping() as recorded,
        sleeping(HOME=str(folder / "two" / "home")) as at_home,
        sleeping(HOME=str(tmp_path)) as stranger,
    ):
        processes.record(folder / "one", recorded.pid, Limits(0, 0, 0))
        assert processes.end_left_over(folder) == 2
        assert list(folder.iterdir()) == []
        assert proc.look(stranger.pid) is not None
        stranger.kill()
    assert recorded.returncode == at_home.returncode == -9


@LINUX
def test_a_child_with_a_session_and_an_environment_of_its_own_is_known_by_its_mark(tmp_path: Path) -> None:
    folder = tmp_path / "instances"
    (folder / "one").mkdir(parents=True)
    bounds = Limits(memory=0, scratch=1 << 20, tasks=100_000, mark=4242)

    with sleeping() as recorded:
        processes.record(folder / "one", recorded.pid, bounds)
        another = replace(bounds, mark=4243)
        with under(tmp_path, bounds) as ours, under(tmp_path, another) as of_another, sleeping() as stranger:
            assert processes.end_left_over(folder) == 2
            assert proc.look(of_another.pid) is not None
            assert proc.look(stranger.pid) is not None
            of_another.kill()
            stranger.kill()
    assert recorded.returncode == ours.returncode == -9


@LINUX
@pytest.mark.parametrize("stranger", [False, True], ids=["of the instance's user", "of another user"])
def test_a_mark_counts_on_processes_of_the_instances_user_only(tmp_path: Path, stranger: bool) -> None:
    """Anybody may lower a limit to it."""
    bounds = Limits(memory=0, scratch=1 << 20, tasks=100_000, mark=4242)
    user = os.getuid() + 1 if stranger else os.getuid()
    (tmp_path / "one").mkdir()
    with sleeping() as recorded, under(tmp_path, bounds) as marked:
        own = replace(bounds, tasks=0, user=user)
        verdicts = appetite.Watch().verdicts({recorded.pid: own})
        assert verdicts == {recorded.pid: f"ended: had {1 if stranger else 2} processes and threads, its limit is 0"}
        processes.record(tmp_path / "one", recorded.pid, own)
        assert processes.end_left_over(tmp_path) == (1 if stranger else 2)
        marked.kill()


def under(folder: Path, limits: Limits) -> subprocess.Popen[bytes]:
    """A process of our own that lives under those limits."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER)], stdin=subprocess.PIPE, start_new_session=True, env={}
    )
    assert child.stdin is not None
    order = Launch(("sleep", "60"), {}, folder, limits)
    child.stdin.write("\0".join(processes.orders(order, parent=os.getpid())).encode())
    child.stdin.close()
    wait_until(lambda: proc.bounds(child.pid) == limits.signs)
    return child


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_nothing_that_a_function_left_stops_a_later_start(tmp_path: Path) -> None:
    for name in ("nested", "endless", "list", "pipe"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / processes.RECORD)
    (tmp_path / "nested" / processes.RECORD).write_text("[" * 100_000)
    (tmp_path / "endless" / processes.RECORD).write_text('{"pid": Infinity, "started": 1, "boot": ""}')
    (tmp_path / "list" / processes.RECORD).write_text("[]")
    assert processes.end_left_over(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_removed_is_left_and_stops_nothing(tmp_path: Path) -> None:
    """A link is never followed, and no folder of ours."""
    (tmp_path / "elsewhere").mkdir()
    instances = tmp_path / "instances"
    (instances / "one").mkdir(parents=True)
    (instances / "link").symlink_to(tmp_path / "elsewhere")
    assert processes.end_left_over(instances) == 0
    assert [path.name for path in instances.iterdir()] == ["link"]
    assert (tmp_path / "elsewhere").is_dir()


@LINUX
def test_a_record_of_an_older_version_is_understood(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with sleeping() as recorded:
        processes.record(tmp_path / "one", recorded.pid, Limits(0, 0, 0))
        path = tmp_path / "one" / processes.RECORD
        read = json.loads(path.read_text())
        kept = {name: read[name] for name in ("pid", "started", "boot")}
        path.write_text(json.dumps(kept))
        assert processes.end_left_over(tmp_path) == 1


@LINUX
def test_a_pid_that_went_to_somebody_else_is_spared(tmp_path: Path) -> None:
    folder = tmp_path / "instances"
    (folder / "one").mkdir(parents=True)
    with sleeping() as stranger:
        processes.record(folder / "one", stranger.pid, Limits(0, 0, 0))
        path = folder / "one" / processes.RECORD
        kept = json.loads(path.read_text())
        for change in ({"started": kept["started"] - 1}, {"boot": "another"}):
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({**kept, **change}))
            assert processes.end_left_over(folder) == 0
        assert stranger.poll() is None
        stranger.kill()


def test_folders_that_others_may_not_enter_are_found(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    for each in (inner, *inner.parents):
        if each.is_relative_to(tmp_path):
            each.chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    assert (tmp_path / "closed").resolve() in list(closed_to_others([inner])) or list(closed_to_others([inner]))
    assert list(closed_to_others([Path("/")])) == []
    assert list(closed_to_others([Path("/no/such/place")])) == [Path("/no")]
