"""Which instances take more of the machine than they may. Called by server, in threads, over and over.

Limits of the system alone would not do: they hold for one process, an instance may have many, and the net for memory
is wide (see limits).
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from knative_lambda.local.serving import proc
from knative_lambda.local.serving.limits import Limits
from knative_lambda.local.serving.proc import Process

FILES = 50_000
"""Files of one instance; beyond, looking at them costs too much."""
RESTS, LONGEST_REST = 20.0, 10.0
"""A look at files keeps others from the processor: the pause after it is so many times the look, to so many seconds."""
BLOCK = 512
HIDING = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG})
"""How the system refuses a look that a function does not want: by rights, or by names too long. All other errors are
those of something that went meanwhile, or not of the function's making."""


class Watch:
    """For one thread at a time. Remembers the limits of strangers' processes: what has a mark, has it from birth."""

    def __init__(self) -> None:
        self._bounds: dict[tuple[int, int], tuple[str, str]] = {}

    def verdicts(self, limits: Mapping[int, Limits]) -> dict[int, str]:
        """By session: why it must end, for those that must. Blocks."""
        signs = {each.signs: session for session, each in limits.items() if each.mark}
        members: defaultdict[int, list[Process]] = defaultdict(list)
        former, self._bounds = self._bounds, {}
        for one in proc.everything():
            session: int | None = one.session
            if session not in limits:  # perhaps a child that left it
                identity = one.pid, one.started
                bounds = former.get(identity) or proc.bounds(one.pid)
                if any(bounds):
                    self._bounds[identity] = bounds
                session = signs.get(bounds)
                if session is not None and not proc.is_of(one.pid, limits[session].user):
                    session = None
            if session is not None:
                members[session].append(one)
        judged = {session: _verdict(limits[session], found) for session, found in members.items()}
        return {session: verdict for session, verdict in judged.items() if verdict}


def _verdict(limits: Limits, members: Sequence[Process]) -> str:
    tasks = sum(one.threads for one in members)
    if tasks > limits.tasks:
        return f"ended: had {tasks} processes and threads, its limit is {limits.tasks}"
    memory = _memory(limits, members)
    if limits.memory and memory > limits.memory:
        return f"OOMKilled: used {memory >> 20} MiB, its limit is {limits.memory >> 20} MiB"
    return ""


def excess(folder: Path, limits: Limits, *, files: int = FILES) -> str:
    """Why an instance must end for what it has written into its folder; empty when it need not. Blocks.

    The limit of the system is for each file; this is for all of them together, as a kubelet has it.
    """
    size = count = 0
    try:
        for each in _sizes(folder):
            count, size = count + 1, size + each
            if count > files:
                return f"Evicted: has more than {files} files in HOME and TMPDIR"
            if size > limits.scratch:
                return f"Evicted: has {size >> 20} MiB in HOME and TMPDIR, its limit is {limits.scratch >> 20} MiB"
    except OSError as error:
        return f"Evicted: what it has in HOME and TMPDIR cannot be looked at: {error.strerror}"
    return ""


def rest(took: float, *, least: float) -> float:
    """Seconds until the next look at files when the last one took so long."""
    return max(least, min(RESTS * took, LONGEST_REST))


def _sizes(folder: Path) -> Iterator[int]:
    """Of everything below, one after the other, 0 of a folder. Raises OSError for what is hidden."""
    waiting = [(str(folder.parent), folder.name)]  # in two parts: neighbours share the first, which may be long
    while waiting:
        path = os.path.join(*waiting.pop())  # noqa: PTH118 - twice as fast, of many thousands
        for entry in _entries(path):
            size = _size(entry)
            if size is None:
                waiting.append((path, entry.name))
            yield size or 0


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """One after the other, for there may be millions. None of a folder that went meanwhile."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except OSError as error:
        if error.errno in HIDING:
            raise


def _size(entry: os.DirEntry[str]) -> int | None:
    """None of a folder. Asking what it is may fail, too, where the file system does not tell with the name."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return None
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        if error.errno in HIDING:
            raise
        return 0
    return min(status.st_size, status.st_blocks * BLOCK)  # a file may have holes, a file system may give ahead


def _memory(limits: Limits, members: Sequence[Process]) -> int:
    """The quick sum counts what forked processes share several times; it decides only where it is small enough."""
    quick = sum(proc.private(one.pid) for one in members)
    if quick <= limits.memory or len(members) == 1:
        return quick
    return sum(proc.portion(one.pid) for one in members)
