"""Is the Knative Service written as wanted, and ready?

While a new image is being built, or could not be, what runs stays as it is, untouched: ServiceReady goes on telling of
it, and Ready tells of the spec, which is not fulfilled.
"""

from __future__ import annotations

from knative_lambda.api import kinds
from knative_lambda.api.conditions import ConditionType, Reason, Status
from knative_lambda.api.function import ServiceStatus
from knative_lambda.reconcile.plan import GO, Apply, Draft, Stall, Verdict, Wait
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.settled import is_as_wanted
from knative_lambda.reconcile.snapshot import Snapshot
from knative_lambda.resources import child, knative_service, names
from knative_lambda.resources.child import Manifest, Ownership
from knative_lambda.resources.observed import ServiceSeen


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:
    """Sets draft.serving once there is a Service of ours for events to go to."""
    service = seen.service
    whose = child.ownership(service, seen.metadata) if service else Ownership.OURS
    if service and whose is Ownership.FOREIGN:
        return _taken(draft, service)
    if service and (service.deleting or whose is Ownership.PREDECESSOR):
        return _leaving(draft, service)
    if draft.image is None:
        return _keep(draft, service)
    draft.serving = True
    wanted = knative_service.manifest(seen.fn, image=draft.image, settings=settings.serving)
    draft.deployed = draft.image
    draft.conditions.mark_true(ConditionType.DEPLOY_READY, Reason.DEPLOYED, f"runs {draft.image}")
    if service is None or not is_as_wanted(service, wanted, seen.settled):
        draft.writes.append(Apply(kinds.SERVICE, wanted, ConditionType.DEPLOY_READY, force=service is not None))
        return _starting(seen, draft, child.applied_hash(wanted))
    return _running(seen, draft, service, wanted)


def _taken(draft: Draft, service: ServiceSeen) -> Verdict:
    message = f"a Knative Service {service.key} exists that is not ours; delete it or name the function otherwise"
    for condition in (ConditionType.DEPLOY_READY, ConditionType.SERVICE_READY):
        draft.conditions.mark_false(condition, Reason.NOT_OWNED, message)
    return Stall(Reason.NOT_OWNED, message)


def _leaving(draft: Draft, service: ServiceSeen) -> Verdict:
    """Its end wakes us."""
    message = f"the former Knative Service {service.key} is being deleted"
    for condition in (ConditionType.DEPLOY_READY, ConditionType.SERVICE_READY):
        draft.conditions.mark_unknown(condition, Reason.DEPLOYING, message)
    return Wait(Reason.DEPLOYING, message)


def _keep(draft: Draft, service: ServiceSeen | None) -> Verdict:
    """There is no image for this spec (yet). `build` has said why, so this step holds nobody up."""
    waits = "waits for the build"
    if service is None:
        for condition in (ConditionType.DEPLOY_READY, ConditionType.SERVICE_READY):
            draft.conditions.mark_unknown(condition, Reason.WAITING_FOR_BUILD, waits)
        return GO
    draft.serving = True
    draft.conditions.mark_true(
        ConditionType.DEPLOY_READY, Reason.DEPLOYED, f"{waits}; until then runs {draft.deployed}"
    )
    if draft.service_status is not None:
        ready = service.readiness.status is Status.TRUE
        draft.service_status = draft.service_status.model_copy(update={"ready": ready})
    _judge(draft, service)
    return GO


def _starting(seen: Snapshot, draft: Draft, applied: str) -> Verdict:
    """What is written is not ready before Knative says so."""
    before = draft.service_status or ServiceStatus()
    changed = {"service_name": names.service(seen.fn), "ready": False, "applied_hash": applied}
    draft.service_status = before.model_copy(update=changed)
    message = f"Knative brings up {draft.image}"
    draft.conditions.mark_unknown(ConditionType.SERVICE_READY, Reason.SERVICE_NOT_READY, message)
    return Wait(Reason.DEPLOYING, message)


def _running(seen: Snapshot, draft: Draft, service: ServiceSeen, wanted: Manifest) -> Verdict:
    """While Knative works, its many small steps are not retold: each would be a write, and news to nobody."""
    if service.readiness.status is Status.UNKNOWN:
        return _starting(seen, draft, child.applied_hash(wanted))
    ready = service.readiness.status is Status.TRUE
    draft.service_status = ServiceStatus(
        service_name=service.key.name,
        url=service.address or service.url,
        ready=ready,
        revision=service.revision,
        applied_hash=child.applied_hash(wanted),
    )
    draft.url = service.url or draft.url
    return _judge(draft, service)


def _judge(draft: Draft, service: ServiceSeen) -> Verdict:
    """ServiceReady, as Knative says."""
    told = service.readiness
    if told.status is Status.TRUE:
        draft.conditions.mark_true(ConditionType.SERVICE_READY, Reason.SERVICE_READY)
        return GO
    if told.status is Status.UNKNOWN:
        draft.conditions.mark_unknown(ConditionType.SERVICE_READY, Reason.SERVICE_NOT_READY)
        return Wait(Reason.DEPLOYING, "Knative is bringing up the Service")
    message = f"Knative says {told.reason or 'no'}: {told.message or 'it gives no reason'}"
    draft.conditions.mark_false(ConditionType.SERVICE_READY, Reason.SERVICE_FAILED, message)
    return Stall(Reason.SERVICE_FAILED, message)
