"""Is the source known down to a digest?"""

from __future__ import annotations

from datetime import datetime

from knative_lambda.api.conditions import Condition, ConditionType, Reason, Status, find
from knative_lambda.api.function import SourceStatus
from knative_lambda.reconcile.plan import GO, Draft, Stall, Verdict, Wait
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot, SourceProblem
from knative_lambda.sources import identity
from knative_lambda.sources.base import Resolution

SOONEST, LATEST = 5.0, 300.0
"""Seconds to the next look at a source that time may heal: as long as it has been away already, between these."""
RECHECK = 600.0
"""Seconds to the next look at a source that a person must mend: no watch tells of a pushed branch or a new Secret."""


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:  # noqa: ARG001 - every step's form
    """Hands the resolution on to `build`."""
    image = seen.fn.spec.source.image
    if image is not None:
        _resolved(seen, draft, identity.of_image(image))
        return GO
    found = seen.resolution
    if isinstance(found, Resolution):
        _resolved(seen, draft, found)
        return GO
    problem = found or SourceProblem(Reason.RESOLVING, "the source is being resolved", retry=True)
    return _unresolved(seen, draft, problem)


def _resolved(seen: Snapshot, draft: Draft, found: Resolution) -> None:
    draft.resolution = found
    draft.source_status = SourceStatus(
        digest=found.digest, revision=found.revision[:256], generation=seen.metadata.generation
    )
    draft.conditions.mark_true(ConditionType.SOURCE_READY, Reason.RESOLVED, f"source is at {found.revision[:256]}")


def _unresolved(seen: Snapshot, draft: Draft, problem: SourceProblem) -> Verdict:
    if problem.retry:
        draft.conditions.mark_unknown(ConditionType.SOURCE_READY, problem.reason, problem.message)
        before = find(seen.status.conditions, ConditionType.SOURCE_READY)
        return Wait(problem.reason, problem.message, after=_patience(before, seen.now))
    draft.conditions.mark_false(ConditionType.SOURCE_READY, problem.reason, problem.message)
    return Stall(problem.reason, problem.message, after=RECHECK)


def _patience(before: Condition | None, now: datetime) -> float:
    """Exponential without a counter: the next look is as far away as the trouble is old."""
    if before is None or before.status is not Status.UNKNOWN:
        return SOONEST
    return min(LATEST, max(SOONEST, (now - before.last_transition_time).total_seconds()))
