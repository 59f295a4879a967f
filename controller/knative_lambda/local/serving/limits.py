"""What a function's process may take of the machine. Called by instance before every start.

Memory: measured with Node.js 20 on Linux, an address-space limit below 1 GiB ends it before its first line (it reserves
much and uses little), while a limit of private writable memory (RLIMIT_DATA) of 64 MiB does not hinder it, and ends a
hog close to the limit. So RLIMIT_DATA, with room for what is mapped and never touched, is the net under the watcher,
which ends an instance whose processes together hold more than the limit.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from knative_lambda.local.serving.revisions import Template

MEBI = 1 << 20
DATA_ROOM = 160 * MEBI
"""Stacks of threads are mapped whole and used little: 17 threads of 8 MiB, and some room."""
TASKS_ROOM = 2
"""A fork bomb shall be seen and ended by the watcher; the system's limit only holds it until then."""
DEFAULT_SCRATCH = 64 * MEBI
OPEN_FILES = 4096
MARKS = range(4096, 800_000)
"""Below what the system allows for message queues, which no function misses."""


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
    """Known to no other instance: a limit that nobody minds, from which a child cannot get away by a session and an
    environment of its own. 0 is none."""
    processors: int = 0
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


def of(template: Template, *, tasks: int, others: int) -> Limits:
    """Of one instance."""
    mark = MARKS[secrets.randbelow(len(MARKS))]
    return Limits(template.memory, template.scratch or DEFAULT_SCRATCH, tasks, others, mark, template.processors)
