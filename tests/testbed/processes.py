"""Processes of the bed: own folder, own ports, own log files, and an end that nothing escapes.

A `Run` is one folder below `root()` with the processes started in it. It ends with its owner: by `end()`,
at interpreter exit, or on SIGTERM and SIGHUP. An owner killed with SIGKILL can end nothing, so each run
records its owner and its processes (process id and start time, for ids are reused), and each process carries
the run's name in its environment; the next `Run.begin` ends what dead owners left. Nothing is ever ended by
its program's name. Called by kubernetes, rabbitmq, gitserver and the command line of the bed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testbed.errors import BedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

RUN_VARIABLE = "KNATIVE_LAMBDA_TESTBED_RUN"
"""Environment variable of every process of the bed: the folder of its run."""

_OWNER = "owner.json"
_RECORDS = "processes.jsonl"
_PORTS = range(20000, 32000)  # below the range from which the kernel takes ports for outgoing connections
_live: dict[str, Run] = {}
_given: set[int] = set()
_lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for sure: its id may be reused, its id together with its start time is not."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return bool(self.started) and start_time(self.pid) == self.started


def start_time(pid: int) -> str:
    """When the process started, in a form only good for comparison; empty when there is no such process."""
    if not Path("/proc/self/stat").exists():
        return _start_time_by_ps(pid)
    state = _state(Path(f"/proc/{pid}/stat"))
    return "" if state is None or state[0] in "ZX" else f"{_boot()}:{state[19]}"


def _state(stat: Path) -> list[str] | None:
    """Fields of a /proc stat file from the third (the state letter) on, None when the process is gone."""
    try:
        return stat.read_text().rpartition(")")[2].split()  # the name in parentheses may hold blanks
    except OSError:
        return None


def _group(leader: int) -> list[int]:
    """Process ids of a process group that still live."""
    states = {int(path.parent.name): _state(path) for path in Path("/proc").glob("[0-9]*/stat")}
    return [pid for pid, state in states.items() if state and state[0] not in "ZX" and int(state[2]) == leader]


def _all_stopped(tasks: Path) -> bool:
    states = [_state(path) for path in tasks.glob("*/stat")]
    return all(state is None or state[0] in "Tt" for state in states)


def _start_time_by_ps(pid: int) -> str:
    asked = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=10
    )
    return asked.stdout.strip()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]


def root() -> Path:
    """The folder of all runs of this user, made when absent; refused when somebody else owns it."""
    folder = Path(tempfile.gettempdir()) / f"knative-lambda-testbed-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    seen = folder.lstat()
    if folder.is_symlink() or seen.st_uid != os.getuid():
        raise BedError(f"{folder} belongs to another user; remove it or set TMPDIR")
    return folder


def free_port() -> int:
    """A loopback TCP port that nobody listens on and that this process has not given away before."""
    with _lock:
        for _ in range(500):
            port = random.choice(_PORTS)
            if port not in _given and _bindable(port):
                _given.add(port)
                return port
    raise BedError("no free loopback port found between 20000 and 32000")


def _bindable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_until(ready: Callable[[], bool], *, what: str, timeout: float, pause: float = 0.05) -> float:
    """Poll `ready` until it says so; returns the seconds it took, raises BedError after `timeout` seconds."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > timeout:
            raise BedError(f"{what}: not within {timeout:.0f} s")
        time.sleep(pause)
    return time.monotonic() - began


def port_open(port: int) -> bool:
    """Whether somebody accepts connections on this loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(slots=True, eq=False)
class Server:
    """One running process in its own process group. Made by `Run.start`."""

    name: str
    log: Path
    identity: Identity
    _process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not exited."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status as subprocess gives it, None while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log, for error texts."""
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - 16_384))
            return b"\n".join(stream.read().splitlines()[-lines:]).decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group, without effect when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL for the group, and wait until all of it is gone: its ports are free when this returns."""
        self.signal(signal.SIGKILL)
        self._process.wait(timeout=30)
        wait_until(lambda: not _group(self.pid), what=f"end of {self.name}", timeout=30, pause=0.01)

    def freeze(self) -> None:
        """SIGSTOP for the group, and wait until every thread of the process has stopped."""
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        if tasks.exists():
            wait_until(lambda: _all_stopped(tasks), what=f"stop of {self.name}", timeout=10, pause=0.01)

    def thaw(self) -> None:
        """Let a frozen group go on."""
        self.signal(signal.SIGCONT)

    def stop(self, grace: float = 10) -> None:
        """SIGTERM, `grace` seconds to go, then SIGKILL for what is left of the group."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=grace)
        self.kill()

    def wait(self, timeout: float) -> int:
        """Wait for it to exit by itself; returns its exit status, raises BedError after `timeout` seconds."""
        try:
            return self._process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise BedError(f"{self.name} still runs after {timeout:.0f} s:\n{self.tail()}") from None

    def await_ready(self, ready: Callable[[], bool], *, timeout: float) -> float:
        """Poll `ready`; returns the seconds it took, raises BedError with the log when it exits or hangs."""
        began = time.monotonic()
        while not ready():
            if not self.running:
                raise BedError(f"{self.name} exited with status {self.returncode}:\n{self.tail()}")
            if time.monotonic() - began > timeout:
                raise BedError(f"{self.name} is not ready after {timeout:.0f} s:\n{self.tail()}")
            time.sleep(0.05)
        return time.monotonic() - began


class Run:
    """One folder with the processes started in it. Make it with `Run.begin`, leave it with `end`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owner = os.getpid()
        self.servers: list[Server] = []

    @classmethod
    def begin(cls, purpose: str = "run") -> Run:
        """A new run that this process owns. Ends first what dead owners left behind."""
        sweep()
        _end_with_this_process()
        run = cls(_new_folder(purpose))
        with _lock:
            _live[run.folder.name] = run
        return run

    def detach(self, name: str) -> Path:
        """Let the run outlive this process under a fixed name, until `end_detached(name)`; returns its folder.

        The folder keeps its path, for its processes know it: the name is a link beside it.
        """
        (root() / name).symlink_to(self.folder)
        (self.folder / _OWNER).write_text("null")
        self.owner = 0
        with _lock:
            _live.pop(self.folder.name, None)
        return self.folder

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self.owner:
            self.end()

    def directory(self, name: str) -> Path:
        """A folder of the run, made when absent."""
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(
        self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Server:
        """Start a program in its own process group, its output appended to `<run>/<name>.log`.

        `env` adds to this process's environment. The process is recorded before this returns.
        """
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # the run holds it and reaps it in end()
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), RUN_VARIABLE: str(self.folder)},
                cwd=cwd or self.folder,
                start_new_session=True,
            )
        identity = Identity(process.pid, start_time(process.pid))
        with (self.folder / _RECORDS).open("a") as records:
            records.write(json.dumps(asdict(identity)) + "\n")
        server = Server(name, log, identity, process)
        self.servers.append(server)
        return server

    def run(self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 60) -> str:
        """Run a program to its end and return what it printed; raises BedError on another status than 0."""
        done = subprocess.run(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env={**os.environ, **(env or {}), RUN_VARIABLE: str(self.folder)},
            cwd=self.folder,
        )
        if done.returncode != 0:
            raise BedError(f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
        return done.stdout

    def end(self) -> None:
        """Kill what runs and remove the folder. May be called twice. A detached run needs `end_detached`."""
        for server in reversed(self.servers):
            server.kill()
        _end_folder(self.folder)
        with _lock:
            _live.pop(self.folder.name, None)


def sweep() -> list[Path]:
    """End the runs whose owner is gone and return their folders. Runs of living owners are left alone."""
    ended = []
    with _one_at_a_time():
        for folder in sorted(path for path in root().iterdir() if path.is_dir() and not path.is_symlink()):
            if not _stands(folder):
                _end_folder(folder)
                ended.append(folder)
        _drop_broken_links()
    return ended


def detached(name: str) -> Path | None:
    """The folder of the detached run of that name, None when there is none that stands."""
    folder = (root() / name).resolve()
    return folder if folder.is_dir() and _stands(folder) else None


def end_detached(name: str) -> bool:
    """End the detached run of that name; False when there is none."""
    folder = (root() / name).resolve()
    with _one_at_a_time():
        found = folder.is_dir()
        if found:
            _end_folder(folder)
        _drop_broken_links()
    return found


def processes_of(folder: Path) -> list[Identity]:
    """The living processes of a run: those recorded, and those that carry its name in their environment."""
    recorded = [process for process in _recorded(folder) if process.alive]
    marked = [process for process in _marked(folder) if process not in recorded]
    return recorded + marked


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    with (root() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _drop_broken_links() -> None:
    for path in root().iterdir():
        if path.is_symlink() and not path.exists():
            path.unlink()


def _new_folder(purpose: str) -> Path:
    owner = Identity(os.getpid(), start_time(os.getpid()))
    with _one_at_a_time():
        folder = root() / f"{purpose}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        (folder / _OWNER).write_text(json.dumps(asdict(owner)))
    return folder


def _stands(folder: Path) -> bool:
    try:
        owner = json.loads((folder / _OWNER).read_text())
    except (FileNotFoundError, ValueError):
        return False
    if owner is None:
        return bool(processes_of(folder))
    return Identity(**owner).alive


def _recorded(folder: Path) -> list[Identity]:
    try:
        lines = (folder / _RECORDS).read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):  # a line cut short by a kill
            found.append(Identity(**json.loads(line)))
    return found


def _marked(folder: Path) -> list[Identity]:
    wanted = f"{RUN_VARIABLE}={folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if wanted in path.read_bytes().split(b"\0"):
                pid = int(path.parent.name)
                found.append(Identity(pid, start_time(pid)))
    return [process for process in found if process.started and process.pid != os.getpid()]


def _end_folder(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        for process in left:
            if process.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _end_all() -> None:
    for run in list(_live.values()):
        if run.owner == os.getpid():  # a forked child inherits the list, not the runs
            run.end()


_prepared = False


def _end_with_this_process() -> None:
    """End the runs at exit, and make SIGTERM and SIGHUP an exit unless somebody else handles them."""
    global _prepared  # noqa: PLW0603 - handlers belong to the process, and so does this flag
    if _prepared:
        return
    _prepared = True
    atexit.register(_end_all)
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
