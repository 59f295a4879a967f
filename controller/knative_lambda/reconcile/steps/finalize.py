"""The finalizer: put on before anything that it must clean up or announce, taken off last of all.

A new function's Job does not wait for it: what has an owner reference goes by itself, and a thousand new functions
get their Jobs sooner. A function deleted before it has the finalizer is announced from the informer's tombstone
(transitions.vanished).
"""

from __future__ import annotations

from knative_lambda.api import kinds, meta
from knative_lambda.api.conditions import Reason
from knative_lambda.api.meta import ObjectMeta
from knative_lambda.reconcile.plan import GO, Create, Delete, Draft, Hold, Share, Verdict, Wait, Write
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Seen, Snapshot
from knative_lambda.resources import child
from knative_lambda.resources.child import Ownership


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:  # noqa: ARG001 - every step's form
    """Puts the finalizer before the first write that needs it. The last step: it looks at what the others want."""
    held = meta.FINALIZER in seen.metadata.finalizers
    if not held and any(_needs_finalizer(write, seen.metadata) for write in draft.writes):
        finalizers = (*seen.metadata.finalizers, meta.FINALIZER)
        draft.writes.insert(0, Hold(finalizers, seen.metadata.resource_version))
    return GO


def _needs_finalizer(write: Write, metadata: ObjectMeta) -> bool:
    """All but a Job that the garbage collector takes, and what stays when the function goes."""
    if isinstance(write, Share):
        return False
    return not (isinstance(write, Create) and write.manifest["metadata"]["namespace"] == metadata.namespace)


def let_go(seen: Seen, draft: Draft) -> Verdict:
    """The only step of a function that is being deleted and carries our finalizer.

    Children in the function's namespace have an owner reference and go with it; builds elsewhere are deleted here.
    """
    elsewhere = [job for job in seen.jobs if job.key.namespace != seen.metadata.namespace and not job.deleting]
    ours = [job for job in elsewhere if child.ownership(job, seen.metadata) is Ownership.OURS]
    draft.writes += [Delete(kinds.JOB, job.key, job.uid) for job in ours]
    draft.release = True
    return Wait(Reason.DELETING, "what belongs to the function is being deleted")
