"""Starts, ends and finds again the processes of functions. Called by instance, and by server at its start.

Each instance is a session of its own, begun by launcher, with a folder of its own: HOME and TMPDIR in it, and a record
of the process. Whatever the instance leaves behind is known by its session, by its HOME or by its mark (see limits), so
that it can be ended even after this program was killed.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from knative_lambda.local.serving import proc, removal
from knative_lambda.local.serving.limits import Limits

LAUNCHER = Path(__file__).with_name("launcher.py")
RECORD = "process.json"
WHOLE = "whole"
"""The last of the launcher's fields: orders that were cut off are not followed."""
PATH = "/usr/local/bin:/usr/bin:/bin"
LAST_WORDS = 1.0
"""Seconds in which what an ended process printed must have arrived; a child that holds the pipe is not waited for."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to start."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    """Its working directory."""
    limits: Limits
    writable: tuple[str, ...] = ()
    """The only folders and files that it may write to, where the system can see to that."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is written on disk of a running process."""

    pid: int
    started: int
    boot: str
    scratch: int = 0
    mark: int = 0
    user: int = 0


class Child:
    """A running process and all that it starts."""

    def __init__(self, process: asyncio.subprocess.Process, output: _Tap, home: Path, limits: Limits) -> None:
        self.pid = process.pid
        self.exit_code: int | None = None
        self._process = process
        self._output = output
        self._home = str(home)
        self._limits = limits
        self._watch = asyncio.create_task(self._reap(), name=f"process {self.pid}")

    async def wait(self) -> int:
        """The exit code of the first process, negative when a signal ended it. The rest of its group is dead then."""
        return await asyncio.shield(self._watch)

    async def end(self, patience: float) -> None:
        """Asks it to end, and ends it and its children when it has not after `patience` seconds."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), patience)
        except TimeoutError:
            log.warning("a function did not end when it was asked to", pid=self.pid, after=patience)
        await self.kill()

    def strike(self) -> None:
        """Ends its group at once; does not wait."""
        if self.exit_code is None:
            _signal_group(self.pid)

    async def kill(self) -> None:
        """Ends it and its children at once; returns when there is none left."""
        if self.exit_code is None:
            self.strike()
            await self.wait()
        await asyncio.to_thread(proc.end_all, self._is_ours)

    def _is_ours(self, one: proc.Process) -> bool:
        return one.session == self.pid or proc.home_of(one.pid) == self._home or self._is_marked(one)

    def _is_marked(self, one: proc.Process) -> bool:
        ours = self._limits
        return ours.mark > 0 and proc.bounds(one.pid) == ours.signs and proc.is_of(one.pid, ours.user)

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    async def _reap(self) -> int:
        code = await self._process.wait()
        _signal_group(self.pid)
        self.exit_code = code
        await self._output.rest(LAST_WORDS)
        return code


def _signal_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


class _Tap(asyncio.Protocol):
    """Everything that the process and its children print."""

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self._output = output
        self._closed = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._output(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._closed.set()

    async def rest(self, patience: float) -> None:
        """Until the last writer has closed it, or for so many seconds."""
        try:
            await asyncio.wait_for(self._closed.wait(), patience)
        except TimeoutError:
            log.debug("somebody still holds the output of an ended function")
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def spawn(launch: Launch, *, home: Path, output: Callable[[bytes], None]) -> Child:
    """Starts a session of its own; `home` is that of `launch.environment`. Raises OSError."""
    tap = _Tap(output)
    reading, writing = os.pipe()
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: tap, os.fdopen(reading, "rb", buffering=0))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(LAUNCHER),
            stdin=asyncio.subprocess.PIPE, stdout=writing, stderr=writing, start_new_session=True,
            env={"PATH": PATH, "HOME": str(home)}, cwd=home,
        )  # fmt: skip
    except BaseException:
        tap.close()
        raise
    finally:
        os.close(writing)
    child = Child(process, tap, home, launch.limits)
    try:
        await _order(process, launch)
    except BaseException:
        await asyncio.shield(child.kill())
        raise
    return child


async def _order(process: asyncio.subprocess.Process, launch: Launch) -> None:
    assert process.stdin is not None
    process.stdin.write("\0".join(orders(launch, parent=os.getpid())).encode(errors="surrogateescape"))
    try:
        await process.stdin.drain()
    except ConnectionError:
        log.debug("the launcher ended before it was told what to start", pid=process.pid)
    process.stdin.close()


def orders(launch: Launch, *, parent: int) -> Iterator[str]:
    """The fields that launcher reads."""
    limits = launch.limits.resource_limits()
    yield from (str(parent), str(launch.folder), str(launch.limits.user or ""), str(len(limits)))
    for name, most in limits.items():
        yield from (name, str(most))
    yield from (str(launch.limits.processors.first), str(launch.limits.processors.count))
    yield str(len(launch.writable))
    yield from launch.writable
    yield str(len(launch.command))
    yield from launch.command
    yield str(len(launch.environment))
    yield from (f"{name}={value}" for name, value in launch.environment.items())
    yield WHOLE


# ---- folders and records ----


def make_folder(folder: Path, *, user: int) -> None:
    """HOME and TMPDIR of one instance. Blocks."""
    folder.mkdir(parents=True, mode=0o711)
    for name in ("home", "tmp"):
        (folder / name).mkdir(mode=0o700)
        if user:
            os.chown(folder / name, user, user)


def record(folder: Path, pid: int, limits: Limits) -> None:
    """Writes down which process belongs to the folder. Blocks."""
    found = proc.look(pid)
    if found is not None:
        kept = Record(pid, found.started, proc.boot(), limits.scratch, limits.mark, limits.user)
        (folder / RECORD).write_text(json.dumps(asdict(kept)))


def remove_folder(folder: Path) -> None:
    """Blocks. What cannot be removed is left for the next start, with a line in the log."""
    try:
        removal.remove(folder)
    except OSError as error:
        log.warning("the folder of a function's process cannot be removed", folder=str(folder), error=str(error))


def claim(folder: Path) -> int:
    """Makes this program the only one whose functions live in `folder`; the claim ends when the number is closed.

    Raises OSError when another one runs there: its functions would be taken for orphans.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OSError(
            f"another local mode runs its functions in {folder}; end it, or give another state folder"
        ) from None
    return lock


def end_left_over(folder: Path) -> int:
    """Ends what a former program that was killed has left, and removes its folders; how many processes. Blocks."""
    found = [kept for kept in _records(folder) if kept.boot == proc.boot()]
    sessions = {kept.pid: kept for kept in found}
    signs = {(str(kept.scratch), str(kept.mark)): kept for kept in found if kept.mark}
    homes = f"{folder}{os.sep}"

    def is_left(one: proc.Process) -> bool:
        marked = signs.get(proc.bounds(one.pid))
        return (
            _is_of_session(one, sessions.get(one.session))
            or proc.home_of(one.pid).startswith(homes)
            or (marked is not None and one.started >= marked.started and proc.is_of(one.pid, marked.user))
        )

    ended = proc.end_all(is_left)
    for each in folder.iterdir():
        remove_folder(each)
    return ended


def _is_of_session(one: proc.Process, kept: Record | None) -> bool:
    """A pid is not given away while it names a session with a living process, so only its first owner is asked for."""
    if kept is None or one.started < kept.started:
        return False
    first = proc.look(one.session)
    return first is None or first.started == kept.started


def _records(folder: Path) -> Iterator[Record]:
    for path in filter(os.path.isfile, folder.glob(f"*/{RECORD}")):  # a pipe would be waited for
        try:
            read = json.loads(path.read_text())
            marks = (int(read.get(name, 0)) for name in ("scratch", "mark", "user"))  # older versions wrote none
            yield Record(int(read["pid"]), int(read["started"]), str(read["boot"]), *marks)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            log.warning("record of a function's process cannot be read", file=str(path), error=str(error))
