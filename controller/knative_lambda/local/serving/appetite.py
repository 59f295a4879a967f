"""Which instances take more of the machine than they may. Called by server, in a thread, a few times a second.

Limits of the system alone would not do: they hold for one process, an instance may have many, and the net for memory
is wide (see limits).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from knative_lambda.local.serving import proc
from knative_lambda.local.serving.limits import Limits
from knative_lambda.local.serving.proc import Process

FILES = 50_000
"""Files of one instance; beyond, looking at them costs too much."""
BLOCK = 512


class Watch:
    """For one thread at a time. Remembers the limits of strangers' processes, which never change."""

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
                self._bounds[identity] = former.get(identity) or proc.bounds(one.pid)
                session = signs.get(self._bounds[identity])
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
    waiting = [str(folder)]
    while waiting and count <= files and size <= limits.scratch:
        for entry in _entries(waiting.pop()):
            count += 1
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                size += _size(entry)
    if count > files:
        return f"Evicted: has more than {files} files in HOME and TMPDIR"
    if size > limits.scratch:
        return f"Evicted: has {size >> 20} MiB in HOME and TMPDIR, its limit is {limits.scratch >> 20} MiB"
    return ""


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """None of a folder that went meanwhile, or that cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
        return min(status.st_size, status.st_blocks * BLOCK)  # a file may have holes, a file system may give ahead
    except OSError:
        return 0


def _memory(limits: Limits, members: Sequence[Process]) -> int:
    """The quick sum counts what forked processes share several times; it decides only where it is small enough."""
    quick = sum(proc.private(one.pid) for one in members)
    if quick <= limits.memory or len(members) == 1:
        return quick
    return sum(proc.portion(one.pid) for one in members)
