"""Derives metrics from what informers see, so that no decision has to tell of itself. Hung on informers by wiring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from knative_lambda.api import kinds
from knative_lambda.api.conditions import ConditionType, Reason, Status
from knative_lambda.api.meta import Key
from knative_lambda.api.phases import Phase
from knative_lambda.kit.clock import Clock
from knative_lambda.resources.observed import FunctionSeen, JobSeen, JobState, ServiceSeen
from knative_lambda.web.metrics import Metrics

CREATE, UPDATE, DELETE = "create", "update", "delete"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of a function."""

    uid: str
    phase: str
    outbox: tuple[str, ...] = ()
    """Types of the events that wait in its status."""
    operation: str = ""
    """What was done to it and is not in its status yet."""
    since: float = 0.0
    """When that was seen."""


class Watcher:
    """One handler per kind, with the signature of machinery.informer.Handler. Every replica remembers, one counts."""

    def __init__(
        self, metrics: Metrics, *, clock: Clock, leads: Callable[[], bool], synced: Callable[[], bool]
    ) -> None:
        """`synced`: whether the first lists are in; what they hold did not happen just now."""
        self.outbox: Counter[str] = Counter()
        """Events that wait in the status of functions, by type."""
        self.with_queue: set[Key] = set()
        """Functions whose status says that their dead-letter queue is there."""
        self._metrics = metrics
        self._clock = clock
        self._leads = leads
        self._synced = synced
        self._functions: dict[Key, _Known] = {}
        self._unready: dict[str, float] = {}
        """When a new Service, by its uid, was seen first."""

    def phase(self, key: Key) -> str:
        """The phase that the function has as far as we have seen."""
        known = self._functions.get(key)
        return known.phase if known is not None else Phase.DELETING.value

    def reconciled(self, key: Key, result: str, seconds: float) -> None:
        """The observer of the functions' runner."""
        self._metrics.reconciled(key, self.phase(key), result=result, seconds=seconds)

    def function(self, key: Key, old: FunctionSeen | None, new: FunctionSeen | None) -> None:
        """Operations of people and of git, phases, and what waits in the outbox."""
        before = self._functions.get(key)
        if new is None or (before is not None and before.uid != new.uid):
            self._gone(key)
            before = None
        if new is None:
            return
        self._metrics.series.enter(key)
        told = _told(new)
        (self.with_queue.add if told.has_queue else self.with_queue.discard)(key)
        known = self._known(before, old, new, told)
        self._functions[key] = self._settled(key, known, new)
        self._count_outbox(() if before is None else before.outbox, known.outbox)

    def job(self, _key: Key, old: JobSeen | None, new: JobSeen | None) -> None:
        """Builds that ended."""
        was_running = old is None or old.state is JobState.RUNNING
        if new is None or new.state is JobState.RUNNING or not was_running or not self._counts():
            return
        took = (new.ended - new.created).total_seconds() if new.ended and new.created else None
        self._metrics.built(new.function, is_ok=new.state is JobState.COMPLETE, seconds=took)

    def service(self, _key: Key, old: ServiceSeen | None, new: ServiceSeen | None) -> None:
        """New Services on their way to Ready."""
        if old is not None and (new is None or new.uid != old.uid):
            self._unready.pop(old.uid, None)
        if new is None or not is_managed(new):
            return
        is_ready = new.readiness.status is Status.TRUE
        if old is None or old.uid != new.uid:
            if self._synced() and not is_ready:
                self._unready[new.uid] = self._clock.monotonic()
        elif is_ready and (since := self._unready.pop(new.uid, None)) is not None and self._leads():
            self._metrics.service_created(new.function, seconds=self._clock.monotonic() - since)

    def _counts(self) -> bool:
        """Whether what is seen now has just happened, and is ours to tell."""
        return self._synced() and self._leads()

    def _known(self, before: _Known | None, old: FunctionSeen | None, new: FunctionSeen, told: _Told) -> _Known:
        known = _Known(new.uid, told.phase, told.outbox)
        if before is not None:
            known = replace(known, operation=before.operation, since=before.since)
        operation = _operation(before, old, new)
        if not operation or not self._synced():
            return known
        if operation != DELETE and self._leads():  # one that is deleted is counted when it is gone
            self._metrics.operated(new.key, operation)
        if operation == DELETE or not known.operation:
            known = replace(known, operation=operation, since=self._clock.monotonic())
        return known

    def _settled(self, key: Key, known: _Known, new: FunctionSeen) -> _Known:
        """Without the operation, once the status speaks of it."""
        if known.operation in ("", DELETE) or new.observed_generation < new.generation:
            return known
        if self._leads():
            took = self._clock.monotonic() - known.since
            self._metrics.operation_took(key, known.operation, seconds=took)
        return replace(known, operation="")

    def _gone(self, key: Key) -> None:
        known = self._functions.pop(key, None)
        if known is None:
            return
        self._count_outbox(known.outbox, ())
        if self._counts():
            now = self._clock.monotonic()
            self._metrics.operated(key, DELETE)
            since = known.since if known.operation == DELETE else now
            self._metrics.operation_took(key, DELETE, seconds=now - since)
        self.with_queue.discard(key)
        self._metrics.dead_letters.pop(key, None)
        self._metrics.series.leave(key)

    def _count_outbox(self, before: Sequence[str], after: Sequence[str]) -> None:
        if before != after:
            self.outbox.subtract(before)
            self.outbox.update(after)


def is_managed(seen: ServiceSeen) -> bool:
    """Whether a Knative Service belongs to a function, and is no stranger's."""
    owner = seen.owner
    return owner is not None and (owner.group, owner.kind) == (kinds.LAMBDA_FUNCTION.group, kinds.LAMBDA_FUNCTION.kind)


def _operation(before: _Known | None, old: FunctionSeen | None, new: FunctionSeen) -> str:
    if before is None or old is None:
        return DELETE if new.deleting else CREATE
    if new.deleting:
        return "" if old.deleting else DELETE
    return UPDATE if new.generation > old.generation else ""


@dataclass(frozen=True, slots=True)
class _Told:
    """What a status says that anybody may have written."""

    phase: str = Phase.PENDING.value
    outbox: tuple[str, ...] = ()
    """Types of the events in it."""
    has_queue: bool = False


def _told(new: FunctionSeen) -> _Told:
    status = new.load().get("status")
    if not isinstance(status, dict):
        return _Told()
    phase = status.get("phase")
    return _Told(
        phase=phase if isinstance(phase, str) and phase in _PHASES else Phase.PENDING.value,
        outbox=tuple(str(one["type"]) for one in _rows(status, "outbox") if "type" in one),
        has_queue=any(_tells_of_queue(one) for one in _rows(status, "conditions")),
    )


def _rows(status: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = status.get(name)
    return [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []


def _tells_of_queue(condition: dict[str, Any]) -> bool:
    told = (condition.get("type"), condition.get("status"), condition.get("reason"))
    return told == (ConditionType.DLQ_READY.value, Status.TRUE.value, Reason.DLQ_READY.value)


_PHASES = frozenset(phase.value for phase in Phase)
