"""Becomes a function's process. Run by local.processes as a script of its own, with nothing of this package imported.

Between fork and exec stands this small program rather than a `preexec_fn`, which may not run Python beside threads. It
reads its orders from standard input, for secrets in arguments would be seen by every user of the machine: fields that
are separated by NUL, in the order that `main` takes them. Ends with 127 and a word when the command cannot be run.

Where Linux has Landlock (5.13), the process and all that it starts can write nowhere but in the folders and files that
it is given, and read nothing of others' memory and environment. Later versions of it do more: 2 (Linux 5.19) lets
files move between folders, which 1 always refuses; 3 (6.2) keeps files elsewhere from being shortened; 6 (6.12) keeps
everybody else from being signalled. Structures and numbers are those of linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator

DIE_WITH_PARENT = 1
NO_NEW_PRIVILEGES = 38
DROP_CAPABILITY = 24
"""Numbers of Linux' prctl."""
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of system calls, the same on every architecture."""
ASK_VERSION = 1
BENEATH = 1
"""The type of a rule about a folder and what is below it, or about one file."""
WRITE_FILE, REFER, TRUNCATE = 1 << 1, 1 << 13, 1 << 14
"""Writing to files; moving between folders, from version 2 on; shortening files, from version 3 on."""
WRITING = WRITE_FILE | sum(1 << bit for bit in range(4, 13))
"""Also removing and making files, folders, links and the like."""
OF_A_FILE = WRITE_FILE | TRUNCATE
"""What a rule about a single file may allow."""
SIGNALS = 2
"""Of what is scoped, from version 6 on."""


def main(fields: Iterator[str]) -> None:
    parent, folder, user = int(next(fields)), next(fields), next(fields)
    for _ in range(int(next(fields))):
        _limit(next(fields), int(next(fields)))
    _keep_to(int(next(fields)), int(next(fields)))
    writable = [next(fields) for _ in range(int(next(fields)))]
    command = [next(fields) for _ in range(int(next(fields)))]
    environment = dict(next(fields).partition("=")[::2] for _ in range(int(next(fields))))
    if next(fields, "") != "whole":
        raise ValueError("the orders are not whole")
    os.umask(0o077)
    if user:
        _become(int(user))
    _bind_to(parent)
    _confine(writable)
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


def _keep_to(first: int, count: int) -> None:
    """So many of the processors that we have, from the first on; 0 is all. Systems but Linux have no such thing."""
    if count and sys.platform.startswith("linux"):
        allowed = sorted(os.sched_getaffinity(0))
        first %= len(allowed)
        os.sched_setaffinity(0, (allowed[first:] + allowed[:first])[:count])


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
    capability = 0
    while libc.prctl(DROP_CAPABILITY, capability, 0, 0, 0) == 0:  # root's, who has none after exec; others cannot
        capability += 1
    if os.getppid() != parent:
        os._exit(1)


def _confine(writable: list[str]) -> None:
    """For ever, and for all children. Where the system cannot do it, rights on files are all that holds."""
    if not sys.platform.startswith("linux"):
        return
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ASK_VERSION))
    if version < 1:
        return
    rights = WRITING | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    asked = struct.pack("=QQQ", rights, 0, SIGNALS if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = call(CREATE_RULESET, asked, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if rules < 0:
        raise OSError(ctypes.get_errno(), "no rules for its files")
    for path in filter(os.path.exists, writable):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = rights if os.path.isdir(path) else rights & OF_A_FILE  # noqa: PTH112 - pathlib takes its time
        rule = struct.pack("=Qi", allowed, place)
        if call(ADD_RULE, rules, BENEATH, rule, ctypes.c_uint32(0)) < 0:
            raise OSError(ctypes.get_errno(), f"no rule for {path}")
        os.close(place)
    if call(RESTRICT_SELF, rules, ctypes.c_uint32(0)) < 0:
        raise OSError(ctypes.get_errno(), "not confined to its files")
    os.close(rules)


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
