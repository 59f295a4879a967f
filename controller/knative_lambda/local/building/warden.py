"""Runs one command and lets nothing of it outlive us. Started by local.commands as a script; imports nothing of ours.

Standard input is a pipe whose other end the controller holds and never writes to. When it closes, because the build is
over or because the controller was killed, the command dies with its process group and, on Linux, with everything that
left the group: this process is the one that orphans come to. Ends with the command's exit code, 128 + N for signal N,
127 when the command cannot be started.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

SUBREAPER = 36
"""Number of Linux' prctl: orphans below become our children."""
ROUNDS = 50
"""A process that forks while it is being ended leaves a child for the next round."""
LINUX = sys.platform.startswith("linux")


def main(command: Sequence[str]) -> int:
    if LINUX:
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stdout.write(f"{command[0]}: {error.strerror}\n")
        return 127
    threading.Thread(target=_watch, args=(child.pid,), daemon=True).start()
    code = child.wait()
    _end_group(child.pid)
    _end_orphans()
    return code if code >= 0 else 128 - code


def _watch(group: int) -> None:
    """`main` goes on once the command is dead."""
    while os.read(0, 1):
        pass
    _end_group(group)


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _end_orphans() -> None:
    for _ in range(ROUNDS):
        found = list(_children())
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in found:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").glob("*/children") if LINUX else ():
        with contextlib.suppress(OSError):
            yield from (int(pid) for pid in task.read_text().split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
