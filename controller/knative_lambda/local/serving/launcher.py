"""Becomes a function's process. Run by local.processes as a script of its own, with nothing of this package imported.

Between fork and exec stands this small program rather than a `preexec_fn`, which may not run Python beside threads. It
reads its orders from standard input, for secrets in arguments would be seen by every user of the machine: fields that
are separated by NUL, in the order that `main` takes them. Ends with 127 and a word when the command cannot be run.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator

DIE_WITH_PARENT = 1
NO_NEW_PRIVILEGES = 38
"""Numbers of Linux' prctl."""


def main(fields: Iterator[str]) -> None:
    parent, folder, user = int(next(fields)), next(fields), next(fields)
    for _ in range(int(next(fields))):
        _limit(next(fields), int(next(fields)))
    command = [next(fields) for _ in range(int(next(fields)))]
    environment = dict(next(fields).partition("=")[::2] for _ in range(int(next(fields))))
    if next(fields, "") != "whole":
        raise ValueError("the orders are not whole")
    os.umask(0o077)
    if user:
        _become(int(user))
    _bind_to(parent)
    os.chdir(folder)
    _close_input()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is what we want


def _limit(name: str, most: int) -> None:
    """Never above what we have ourselves."""
    number = getattr(resource, name, None)
    if number is None:
        return
    hard = resource.getrlimit(number)[1]
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(number, (allowed, allowed))


def _become(user: int) -> None:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def _bind_to(parent: int) -> None:
    """Dies when the server does, whatever ended it; after a change of user, which would undo this."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _close_input() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    try:
        main(iter(sys.stdin.buffer.read().decode(errors="surrogateescape").split("\0")))
    except (OSError, ValueError, StopIteration, RuntimeError) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        sys.exit(127)
