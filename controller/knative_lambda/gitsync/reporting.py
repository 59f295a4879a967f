"""The status that a sync leaves behind. Pure; called by loop, which writes it when it differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from knative_lambda.api import conditions
from knative_lambda.api.conditions import Condition, Conditions, ConditionType, Reason, Status
from knative_lambda.api.meta import Key
from knative_lambda.api.repository import FINDINGS_LIMIT, Finding, FunctionRepository, InventoryItem, RepositoryStatus
from knative_lambda.gitsync import discovery, validation
from knative_lambda.gitsync.acting import Outcome
from knative_lambda.gitsync.base import Remote
from knative_lambda.gitsync.diff import Changes
from knative_lambda.gitsync.world import Known
from knative_lambda.sources.base import SourceError

_REASONS = frozenset(reason.value for reason in Reason)


@dataclass(frozen=True, slots=True)
class Synced:
    """One sync, as it is to be reported."""

    repo: FunctionRepository
    known: Known
    changes: Changes | None
    """None when no revision is known."""
    outcome: Outcome

    @property
    def is_complete(self) -> bool:
        """Every valid function of the newest revision is written."""
        changes, outcome = self.changes, self.outcome
        return changes is not None and not (outcome.failed or outcome.stopped or changes.going)

    def revision(self, commit: str) -> str:
        return Remote(self.repo.spec.url, self.repo.spec.ref).revision(commit)


def status(synced: Synced, now: datetime) -> RepositoryStatus:
    """The whole next status; `last_sync_time` moves only with something else."""
    before, known = synced.repo.status, synced.known
    after = before.model_copy(
        update={
            "observed_generation": synced.repo.metadata.generation,
            "observed_revision": synced.revision(known.head) if known.head else before.observed_revision,
            "last_handled_reconcile_at": known.handled[:256],
            "webhook_path": synced.repo.webhook_path,
        }
    )
    findings = before.findings
    if synced.changes is not None and known.revision is not None:
        inventory = _inventory(synced.changes, synced.outcome, before.inventory)
        findings = _findings(synced.changes, synced.outcome, known.revision.discovered.findings)
        applied = synced.revision(known.revision.commit) if synced.is_complete else before.applied_revision
        after = after.model_copy(
            update={
                "applied_revision": applied,
                "functions": len(inventory),
                "inventory": inventory,
                "findings": findings,
            }
        )
    after = after.model_copy(update={"conditions": _conditions(synced, findings, now)})
    return after if after == before else after.model_copy(update={"last_sync_time": now.replace(microsecond=0)})


def suspended(repo: FunctionRepository, now: datetime) -> RepositoryStatus:
    """The status of a repository that a person has put aside: everything stays, and says so."""
    marks = Conditions(repo.status.conditions, generation=repo.metadata.generation, now=now)
    _keep(marks, repo.status.conditions, ConditionType.FETCHED, ConditionType.APPLIED)
    marks.mark_unknown(ConditionType.READY, Reason.SUSPENDED, "nothing is done while spec.suspend is true")
    before = repo.status.model_copy(update={"webhook_path": repo.webhook_path})
    return _with_conditions(before, marks.freeze(), repo.metadata.generation)


def invalid(before: RepositoryStatus, generation: int, *, message: str, now: datetime) -> RepositoryStatus:
    """The status of a repository whose spec this release cannot read."""
    marks = Conditions(before.conditions, generation=generation, now=now)
    _keep(marks, before.conditions, ConditionType.FETCHED, ConditionType.APPLIED)
    marks.mark_false(ConditionType.READY, Reason.INVALID_SPEC, message)
    marks.mark_true(ConditionType.STALLED, Reason.INVALID_SPEC, message)
    return _with_conditions(before, marks.freeze(), generation)


def _with_conditions(before: RepositoryStatus, rows: tuple[Condition, ...], generation: int) -> RepositoryStatus:
    return before.model_copy(update={"conditions": rows, "observed_generation": generation})


def _keep(marks: Conditions, before: tuple[Condition, ...], *wanted: ConditionType) -> None:
    for kind in wanted:
        row = conditions.find(before, kind)
        if row is not None and row.reason in _REASONS:  # not one that another release wrote
            _copy(marks, kind, row)


def _copy(marks: Conditions, kind: ConditionType, row: Condition) -> None:
    mark = {Status.TRUE: marks.mark_true, Status.FALSE: marks.mark_false, Status.UNKNOWN: marks.mark_unknown}
    mark[row.status](kind, Reason(row.reason), row.message)


# Inventory and findings.


def _inventory(changes: Changes, outcome: Outcome, before: tuple[InventoryItem, ...]) -> tuple[InventoryItem, ...]:
    """What is there, or may be: a refused or untried write changes nothing, a failed deletion leaves it here."""
    items: dict[Key, InventoryItem] = {item.key: item for item in changes.inventory}
    old = {item.key: item for item in before}
    for write in changes.apply:
        key = write.desired.key
        if key not in outcome.written and (key not in outcome.failed or key in old):
            _put_back(items, key, old)
    for removal in changes.delete:
        if removal.item.key not in outcome.deleted:
            items[removal.item.key] = removal.item
    return tuple(items[key] for key in sorted(items))


def _put_back(items: dict[Key, InventoryItem], key: Key, old: Mapping[Key, InventoryItem]) -> None:
    if key in old:
        items[key] = old[key]
    else:
        items.pop(key, None)


def _findings(changes: Changes, outcome: Outcome, discovered: tuple[Finding, ...]) -> tuple[Finding, ...]:
    refused = [
        validation.finding(
            write.desired.declared.file,
            f"the API server refuses it: {outcome.refused[write.desired.key]}",
            line=write.desired.declared.line,
            function=write.desired.declared.name,
        )
        for write in changes.apply
        if write.desired.key in outcome.refused
    ]
    if not refused and not changes.findings:
        return discovered
    return discovery.shortened([*discovered, *changes.findings, *refused], FINDINGS_LIMIT)


# Conditions.


def _conditions(synced: Synced, findings: tuple[Finding, ...], now: datetime) -> tuple[Condition, ...]:
    before = synced.repo.status.conditions
    marks = Conditions(before, generation=synced.repo.metadata.generation, now=now)
    _mark_fetched(marks, synced)
    if synced.changes is None:
        _keep(marks, before, ConditionType.APPLIED)
    else:
        _mark_applied(marks, synced, synced.changes)
    _mark_ready(marks, findings)
    _mark_progress(marks, synced, findings)
    return marks.freeze()


def _mark_fetched(marks: Conditions, synced: Synced) -> None:
    problem = synced.known.problem
    if problem is not None:
        marks.mark_false(ConditionType.FETCHED, problem.reason, problem.message)
    else:
        marks.mark_true(ConditionType.FETCHED, Reason.FETCHED, synced.revision(synced.known.head))


def _mark_applied(marks: Conditions, synced: Synced, changes: Changes) -> None:
    outcome = synced.outcome
    if outcome.failed:
        key, error = min(outcome.failed.items())
        more = f", and {len(outcome.failed) - 1} more" if len(outcome.failed) > 1 else ""
        marks.mark_false(ConditionType.APPLIED, Reason.WRITE_FAILED, f"{key}: {error.message}{more}")
    elif changes.guarded:
        marks.mark_false(ConditionType.APPLIED, Reason.PRUNE_GUARDED, changes.guarded)
    elif not synced.is_complete:
        marks.mark_unknown(ConditionType.APPLIED, Reason.APPLYING, _progress(changes, outcome))
    else:
        assert synced.known.revision is not None
        count = len(synced.known.revision.discovered.functions) - len(changes.findings) - len(outcome.refused)
        words = f"{count} function{'' if count == 1 else 's'} at {synced.revision(synced.known.revision.commit)}"
        marks.mark_true(ConditionType.APPLIED, Reason.APPLIED, words)


def _progress(changes: Changes, outcome: Outcome) -> str:
    if changes.going and not outcome.stopped:
        return f"waits until {changes.going[0]} is deleted"
    return f"{len(outcome.written)} of {len(changes.apply)} functions written, the rest follows"


def _mark_ready(marks: Conditions, findings: tuple[Finding, ...]) -> None:
    """The first thing that is wrong, or nothing is."""
    for kind in (ConditionType.FETCHED, ConditionType.APPLIED):
        row = marks.get(kind)
        if row is None:
            continue
        if row.status is not Status.TRUE:
            _copy(marks, ConditionType.READY, row)
            return
    if findings:
        marks.mark_false(ConditionType.READY, Reason.FINDINGS, _summary(findings))
    else:
        applied = marks.get(ConditionType.APPLIED)
        marks.mark_true(ConditionType.READY, Reason.READY, applied.message if applied else "")


def _mark_progress(marks: Conditions, synced: Synced, findings: tuple[Finding, ...]) -> None:
    """Reconciling and Stalled, by the rules of kstatus."""
    problem = synced.known.problem
    if problem is not None and not problem.retry:
        marks.mark_true(ConditionType.STALLED, problem.reason, problem.message)
    elif synced.changes is not None and synced.changes.guarded:
        marks.mark_true(ConditionType.STALLED, Reason.PRUNE_GUARDED, synced.changes.guarded)
    elif findings and synced.is_complete:
        marks.mark_true(ConditionType.STALLED, Reason.FINDINGS, _summary(findings))
    if _goes_on(problem, synced):
        ready = marks.get(ConditionType.READY)
        assert ready is not None
        marks.mark_true(ConditionType.RECONCILING, Reason(ready.reason), ready.message)


def _goes_on(problem: SourceError | None, synced: Synced) -> bool:
    return (problem is not None and problem.retry) or (synced.changes is not None and not synced.is_complete)


def _summary(findings: tuple[Finding, ...]) -> str:
    more = f" (and {len(findings) - 1} more in status.findings)" if len(findings) > 1 else ""
    return f"{findings[0]}{more}"
