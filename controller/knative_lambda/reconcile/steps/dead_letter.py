"""Is there a dead-letter queue for what the function could not take?

Functions without triggers need none. Waits for nobody; nobody waits for it: until the queue is there, dead letters go
to the catch-all queue.
"""

from __future__ import annotations

from knative_lambda.api.conditions import ConditionType, Reason
from knative_lambda.reconcile.plan import GO, Draft, Stall, Verdict, Wait
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot

RECHECK_SECONDS = 5.0
"""Nothing is watched in RabbitMQ, so the clock wakes us."""
REFUSED_RECHECK_SECONDS = 60.0


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:
    """One condition, DLQReady; none at all where dead letters are switched off."""
    if settings.dead_letters is None:
        return GO
    kind = ConditionType.DLQ_READY
    if not seen.fn.spec.triggers:
        draft.conditions.mark_true(kind, Reason.NO_TRIGGERS)
        return GO
    queue = seen.dead_letters
    if queue is None:
        raise ValueError("observe asks for the queue of every function with triggers")
    if queue.is_ready:
        draft.conditions.mark_true(kind, Reason.DLQ_READY)
        return GO
    if queue.needs_person:
        draft.conditions.mark_false(kind, queue.reason, queue.message)
        return Stall(queue.reason, queue.message, after=REFUSED_RECHECK_SECONDS)
    draft.conditions.mark_unknown(kind, queue.reason, queue.message)
    return Wait(queue.reason, queue.message, after=RECHECK_SECONDS)
