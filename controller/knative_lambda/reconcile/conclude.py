"""What the status says after the writes were tried: the only place where Ready, its companions and phase are made.

* nothing missing: Ready=True. A Service at zero replicas is one that Knative calls ready.
* somebody must act: Ready=False and Stalled=True, with the first such step's reason.
* else: Ready=Unknown and Reconciling=True, with the first waiting step's reason.

A function whose newest build failed, or runs, is not Ready although an older image still answers: Ready is about the
spec; ServiceReady and status.url tell of what runs. Pure; called by `report`.
"""

from __future__ import annotations

from collections.abc import Sequence

from knative_lambda.api import phases
from knative_lambda.api.conditions import Conditions, ConditionType, Reason
from knative_lambda.api.function import FunctionStatus
from knative_lambda.reconcile.act import Failure, Outcome
from knative_lambda.reconcile.plan import ManifestWrite, Plan, Stall, Verdict, Wait
from knative_lambda.reconcile.snapshot import Seen

REFUSED_RECHECK = 60.0
"""Seconds to the next try of what the server refused: no watch tells of a raised quota or an installed kind."""


def conclude(seen: Seen, plan: Plan, outcome: Outcome) -> FunctionStatus:
    """The next status, but for its outbox."""
    for failure in outcome.failures:
        _mark(plan.conditions, failure)
    _summarize(plan.conditions, verdicts_after(plan, outcome))
    conditions = plan.conditions.freeze()
    phase = phases.derive(conditions, deleting=seen.metadata.deletion_timestamp is not None)
    before = seen.status
    moved = {"transitions": before.transitions + 1} if phase is not before.phase else {}
    parts = _taken_back(before, outcome)
    return plan.status.model_copy(update={**parts, **moved, "phase": phase, "conditions": conditions})


def verdicts_after(plan: Plan, outcome: Outcome) -> tuple[Verdict, ...]:
    """Failures come first: what a step hoped for did not happen."""
    return (*map(_verdict, outcome.failures), *plan.verdicts)


def _verdict(failure: Failure) -> Verdict:
    message = _message(failure)
    if failure.needs_person:
        return Stall(failure.reason, message, after=REFUSED_RECHECK)
    return Wait(failure.reason, message)


def _mark(conditions: Conditions, failure: Failure) -> None:
    if not isinstance(failure.write, ManifestWrite):
        return
    mark = conditions.mark_false if failure.needs_person else conditions.mark_unknown
    mark(failure.write.condition, failure.reason, _message(failure))


def _message(failure: Failure) -> str:
    write = failure.write
    if isinstance(write, ManifestWrite):
        return f"{write.kind.kind} {write.manifest['metadata']['name']} could not be written: {failure.message}"
    return failure.message


def _taken_back(before: FunctionStatus, outcome: Outcome) -> dict[str, object]:
    """Parts that a plan wrote ahead, for writes that then failed."""
    failed = {failure.write.condition for failure in outcome.failures if isinstance(failure.write, ManifestWrite)}
    parts: dict[str, object] = {}
    if ConditionType.BUILD_READY in failed:
        parts["build_status"] = before.build_status
    if ConditionType.DEPLOY_READY in failed:
        parts |= {"service_status": before.service_status, "image": before.image}
    return parts


def _summarize(conditions: Conditions, verdicts: Sequence[Verdict]) -> None:
    stall = next((verdict for verdict in verdicts if isinstance(verdict, Stall)), None)
    wait = next((verdict for verdict in verdicts if isinstance(verdict, Wait)), None)
    if stall is not None:
        conditions.mark_false(ConditionType.READY, stall.reason, stall.message)
        conditions.mark_true(ConditionType.STALLED, stall.reason, stall.message)
    elif wait is not None:
        conditions.mark_unknown(ConditionType.READY, wait.reason, wait.message)
        conditions.mark_true(ConditionType.RECONCILING, wait.reason, wait.message)
    else:
        conditions.mark_true(ConditionType.READY, Reason.READY, "everything that the spec asks for is there")
