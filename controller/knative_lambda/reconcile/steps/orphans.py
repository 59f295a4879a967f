"""What of ours is there that the spec no longer asks for: Triggers of former filters, builds of former sources."""

from __future__ import annotations

from knative_lambda.api import kinds
from knative_lambda.reconcile.plan import GO, Delete, Draft, Verdict
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot
from knative_lambda.reconcile.steps import triggers
from knative_lambda.resources import child
from knative_lambda.resources.child import Ownership
from knative_lambda.resources.observed import JobSeen, JobState, TriggerSeen


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:  # noqa: ARG001 - every step's form
    """Never waits for anything: an orphan keeps nobody from being ready."""
    wanted = triggers.wanted_names(seen)
    gone = [one for one in seen.triggers if one.key.name not in wanted and _is_ours(seen, one)]
    draft.writes += [Delete(kinds.TRIGGER, one.key, one.uid) for one in gone]
    if draft.build_digest is not None:
        former = [job for job in seen.jobs if _is_superseded(job, draft.build_digest) and _is_ours(seen, job)]
        draft.writes += [Delete(kinds.JOB, job.key, job.uid) for job in former]
    return GO


def _is_superseded(job: JobSeen, wanted: str) -> bool:
    """Finished Jobs stay until their time to live is over, with their logs."""
    return job.build_digest != wanted and job.state is JobState.RUNNING


def _is_ours(seen: Snapshot, one: TriggerSeen | JobSeen) -> bool:
    return not one.deleting and child.ownership(one, seen.metadata) is Ownership.OURS
