"""Is a Trigger for each filter written and ready? One is written once there is a Service for it to send to."""

from __future__ import annotations

from knative_lambda.api import kinds
from knative_lambda.api.conditions import ConditionType, Reason, Status
from knative_lambda.reconcile.plan import GO, Apply, Draft, Stall, Verdict, Wait
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.settled import is_as_wanted
from knative_lambda.reconcile.snapshot import Snapshot
from knative_lambda.resources import child, names, trigger
from knative_lambda.resources.child import Manifest, Ownership
from knative_lambda.resources.observed import TriggerSeen


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:
    """One condition, TriggersReady."""
    if not seen.fn.spec.triggers:
        draft.conditions.mark_true(ConditionType.TRIGGERS_READY, Reason.NO_TRIGGERS)
        return GO
    if not draft.serving:
        draft.conditions.mark_unknown(
            ConditionType.TRIGGERS_READY, Reason.WAITING_FOR_BUILD, "waits for the Service that events are sent to"
        )
        return GO
    existing = {one.key.name: one for one in seen.triggers}
    manifests = {
        names.trigger(seen.fn, one): trigger.manifest(seen.fn, one, sink=settings.dead_letters)
        for one in seen.fn.spec.triggers
    }
    verdicts = [_one(seen, draft, existing.get(name), manifest) for name, manifest in manifests.items()]
    return _worst(draft, verdicts)


def wanted_names(seen: Snapshot) -> frozenset[str]:
    """Names of the Triggers that the spec asks for."""
    return frozenset(names.trigger(seen.fn, wanted) for wanted in seen.fn.spec.triggers)


def _one(seen: Snapshot, draft: Draft, existing: TriggerSeen | None, wanted: Manifest) -> Verdict:
    """One Trigger, written when it is not as wanted."""
    working = Wait(Reason.TRIGGERS_NOT_READY, "Knative Eventing connects the Triggers")
    if existing is not None:
        whose = child.ownership(existing, seen.metadata)
        if whose is Ownership.FOREIGN:
            return Stall(Reason.NOT_OWNED, f"a Trigger {existing.key} exists that is not ours; delete it")
        if existing.deleting or whose is Ownership.PREDECESSOR:
            return working
    if existing is None or not is_as_wanted(existing, wanted, seen.settled):
        draft.writes.append(Apply(kinds.TRIGGER, wanted, ConditionType.TRIGGERS_READY, force=existing is not None))
        return working
    return GO if existing.readiness.status is Status.TRUE else working


def _worst(draft: Draft, verdicts: list[Verdict]) -> Verdict:
    stalls = [verdict for verdict in verdicts if isinstance(verdict, Stall)]
    if stalls:
        draft.conditions.mark_false(ConditionType.TRIGGERS_READY, stalls[0].reason, stalls[0].message)
        return stalls[0]
    waits = [verdict for verdict in verdicts if isinstance(verdict, Wait)]
    if waits:
        draft.conditions.mark_unknown(ConditionType.TRIGGERS_READY, waits[0].reason, waits[0].message)
        return waits[0]
    draft.conditions.mark_true(ConditionType.TRIGGERS_READY, Reason.TRIGGERS_READY)
    return GO
