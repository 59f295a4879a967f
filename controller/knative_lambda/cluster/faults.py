"""Trouble on request: what an API server does on a bad day. Called by memory; filled by tests and by local mode."""

from __future__ import annotations

from dataclasses import dataclass

from knative_lambda.api.meta import Kind
from knative_lambda.cluster.base import ClusterError


@dataclass(slots=True)
class Fault:
    """`times` calls of that verb (and kind) end in `error`; `answered` False means that the write happened."""

    verb: str
    kind: Kind | None
    error: ClusterError
    times: int
    after: bool


class Faults:
    """The faults still to come, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._pending.append(fault)

    def take(self, verb: str, kind: Kind, *, after: bool) -> ClusterError | None:
        """The error of this call, if one was asked for; uses it up."""
        for fault in self._pending:
            if fault.after is after and fault.verb in (verb, "*") and fault.kind in (kind, None):
                fault.times -= 1
                if fault.times <= 0:
                    self._pending.remove(fault)
                return fault.error
        return None

    def clear(self) -> None:
        self._pending.clear()
