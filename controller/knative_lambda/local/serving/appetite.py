"""Which instances take more of the machine than they may. Called by server, in a thread, a few times a second.

Limits of the system alone would not do: they hold for one process, an instance may have many, and the net for memory
is wide (see limits).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from knative_lambda.local.serving import proc
from knative_lambda.local.serving.limits import Limits
from knative_lambda.local.serving.proc import Process


def verdicts(limits: Mapping[int, Limits]) -> dict[int, str]:
    """By session: why it must end, for those that must. Blocks."""
    members: defaultdict[int, list[Process]] = defaultdict(list)
    for one in proc.everything():
        if one.session in limits:
            members[one.session].append(one)
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


def _memory(limits: Limits, members: Sequence[Process]) -> int:
    """The quick sum counts what forked processes share several times; it decides only where it is small enough."""
    quick = sum(proc.private(one.pid) for one in members)
    if quick <= limits.memory or len(members) == 1:
        return quick
    return sum(proc.portion(one.pid) for one in members)
