"""What Linux tells of running processes in /proc. Called by processes; elsewhere there is nothing to read.

Everything here blocks for some milliseconds, so callers run it in a thread.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
ENDING_ROUNDS = 20
"""A process that forks while it is being ended leaves a child for the next round."""
ENVIRONMENT_LIMIT = 1 << 20

_STATE, _SESSION, _THREADS, _STARTED = 0, 3, 17, 19
"""Places in /proc/PID/stat behind the name of the program."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was a moment ago."""

    pid: int
    session: int
    """The pid of the process that the session began with, which may be gone."""
    threads: int
    started: int
    """Clock ticks since the machine started: with it, a pid means one process for ever."""


def boot() -> str:
    """Changes with every start of the machine; empty where it cannot be known."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def look(pid: int) -> Process | None:
    """None when it is gone, or dead and only waited for."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rfind(b")") + 2 :].split()
    if fields[_STATE] in (b"Z", b"X"):
        return None
    return Process(pid, int(fields[_SESSION]), int(fields[_THREADS]), int(fields[_STARTED]))


def private(pid: int) -> int:
    """Bytes in memory that are the process's own: what files and other processes share with it does not count."""
    try:
        _, resident, shared, *_ = (PROC / str(pid) / "statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * PAGE


def everything() -> Iterator[Process]:
    """All processes, those of others too."""
    try:
        names = os.listdir(PROC)  # noqa: PTH208 - half the time, of hundreds
    except OSError:
        return
    for name in names:
        if name.isdigit() and (found := look(int(name))) is not None:
            yield found


def tasks_of(user: int) -> int:
    """Threads of a user's processes, as RLIMIT_NPROC counts them."""
    return sum(one.threads for one in everything() if user_of(one.pid) == user)


def users() -> set[int]:
    """Who has a process now."""
    return {user_of(one.pid) for one in everything()}


def user_of(pid: int) -> int:
    """Whose process it is, -1 when it is gone. Not the owner of its folder here, which a process can make root's."""
    try:
        with (PROC / str(pid) / "status").open("rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"Uid:")), -1)
    except OSError:
        return -1


def is_of(pid: int, user: int) -> bool:
    """Whether it is this user's; with 0, which stands for nobody's own, everybody's are."""
    return user == 0 or user_of(pid) == user


def portion(pid: int) -> int:
    """Like `private`, but pages that forked processes share count once for all of them; takes many times as long."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))


def bounds(pid: int) -> tuple[str, str]:
    """Under which hard limits the process lives: bytes of one file, bytes of message queues. Empty when it is gone."""
    try:
        lines = (PROC / str(pid) / "limits").read_text().splitlines()
    except OSError:
        return "", ""
    hard = {line[:26].rstrip(): line[26:].split()[1] for line in lines[1:]}
    return hard.get("Max file size", ""), hard.get("Max msgqueue size", "")


def home_of(pid: int) -> str:
    """HOME as the process was started with; empty when it cannot be read."""
    try:
        with (PROC / str(pid) / "environ").open("rb") as file:
            content = file.read(ENVIRONMENT_LIMIT)
    except OSError:
        return ""
    homes = (one[5:] for one in content.split(b"\0") if one.startswith(b"HOME="))
    return next(homes, b"").decode(errors="surrogateescape")


def end_all(chosen: Callable[[Process], bool]) -> int:
    """Kills every process that is chosen, until there is none; how many there were. Never this process."""
    ended: set[tuple[int, int]] = set()
    for _ in range(ENDING_ROUNDS):
        found = [one for one in everything() if one.pid != os.getpid() and chosen(one)]
        if not found:
            break
        for one in found:
            _kill(one)
        ended |= {(one.pid, one.started) for one in found}
    return len(ended)


def _kill(one: Process) -> None:
    """Looks again first: between the look and the blow, the pid could have become another's."""
    now = look(one.pid)
    if now is not None and now.started == one.started:
        try:
            os.kill(one.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
