"""What a function's process may take of the machine. Called by instance before every start.

Memory: measured with Node.js 20 on Linux, an address-space limit below 1 GiB ends it before its first line (it reserves
much and uses little), while a limit of private writable memory (RLIMIT_DATA) of 64 MiB does not hinder it, and ends a
hog close to the limit. So RLIMIT_DATA, with room for what is mapped and never touched, is the net under the watcher,
which ends an instance whose processes together hold more than the limit.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from knative_lambda.local.serving import ports
from knative_lambda.local.serving.processors import ALL, Part
from knative_lambda.local.serving.revisions import Template

MEBI = 1 << 20
DATA_ROOM = 160 * MEBI
"""Stacks of threads are mapped whole and used little: 17 threads of 8 MiB, and some room."""
TASKS_ROOM = 2
"""A fork bomb shall be seen and ended by the watcher; the system's limit only holds it until then."""
DEFAULT_SCRATCH = 64 * MEBI
OPEN_FILES = 4096
FIRST_MARK, MARKS_OF_A_PORT = 4096, 62
"""All of them are below what the system allows for message queues (819 200 bytes), which no function misses."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and counts; 0 is no limit."""

    memory: int
    """Resident bytes of all the instance's processes."""
    scratch: int
    """Bytes of one file, and of all files in the instance's folder."""
    tasks: int
    """Processes and threads of the instance."""
    others: int = 0
    """Tasks that the same user has besides: the system counts them all together."""
    mark: int = 0
    """No other living instance has it: a limit that nobody minds, from which a child cannot get away by a session and
    an environment of its own. 0 is none."""
    user: int = 0
    """Who runs this instance and nothing else: a mark counts on this user's processes only, for anybody may lower a
    limit to it. 0 leaves the rights of this program, which all instances share then."""
    processors: Part = ALL
    """Of the machine's, on which the instance may run: the system has no limit for a part of one."""

    @property
    def signs(self) -> tuple[str, str]:
        """How the system tells of file size and mark. Both must be there: no other program has the two."""
        return str(self.scratch), str(self.mark)

    def resource_limits(self) -> dict[str, int]:
        """Names of `resource` with their numbers, for launcher. Root is not held by the number of tasks."""
        limits = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": self.scratch, "RLIMIT_NOFILE": OPEN_FILES}
        if self.memory:
            limits["RLIMIT_DATA"] = self.memory + DATA_ROOM
        if self.mark:
            limits["RLIMIT_MSGQUEUE"] = self.mark
        return {**limits, "RLIMIT_NPROC": TASKS_ROOM * self.tasks + self.others}


def of(template: Template, *, tasks: int, others: int, user: int, port: int, processors: Part) -> Limits:
    """Of one instance."""
    scratch = template.scratch or DEFAULT_SCRATCH
    return Limits(template.memory, scratch, tasks, others, mark(port), user, processors)


def mark(port: int) -> int:
    """As much an instance's own as its port is; by chance not that of the port's former owner, nor easily foretold."""
    return FIRST_MARK + (port - ports.FIRST) * MARKS_OF_A_PORT + secrets.randbelow(MARKS_OF_A_PORT)
