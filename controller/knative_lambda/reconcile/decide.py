"""Snapshot -> Plan, pure: runs the steps. Called by `loop`, and by `kn-lambda` where somebody wants to look ahead."""

from __future__ import annotations

from knative_lambda.api.conditions import Conditions, Reason
from knative_lambda.api.function import FunctionStatus
from knative_lambda.reconcile.plan import Draft, Plan, Stall, Verdict, draft_of
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Seen, Snapshot
from knative_lambda.reconcile.steps import STEPS, finalize


def decide(seen: Seen, settings: ReconcileSettings) -> Plan:
    """What is to be written, and what the status says once it is."""
    conditions = Conditions(seen.status.conditions, generation=seen.metadata.generation, now=seen.now)
    draft = draft_of(seen.status, conditions)
    verdicts = _verdicts(seen, draft, settings)
    return Plan(
        conditions=conditions,
        verdicts=verdicts,
        status=_status(seen.status, draft, generation=seen.metadata.generation),
        writes=tuple(draft.writes),
        release=draft.release,
    )


def _verdicts(seen: Seen, draft: Draft, settings: ReconcileSettings) -> tuple[Verdict, ...]:
    if seen.metadata.deletion_timestamp is not None:
        return (finalize.let_go(seen, draft),)
    if not isinstance(seen, Snapshot):
        return (Stall(Reason.INVALID_SPEC, seen.problem),)
    return tuple(step(seen, draft, settings) for step in STEPS)


def _status(before: FunctionStatus, draft: Draft, *, generation: int) -> FunctionStatus:
    return before.model_copy(
        update={
            "observed_generation": generation,
            "url": draft.url,
            "image": draft.deployed,
            "source_status": draft.source_status,
            "build_status": draft.build_status,
            "service_status": draft.service_status,
        }
    )
