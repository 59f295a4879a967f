"""Is there anything in the spec that only this controller can refuse? The schema has refused the rest already."""

from __future__ import annotations

from knative_lambda.api.conditions import Reason
from knative_lambda.reconcile.plan import GO, Draft, Stall, Verdict
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:
    """Stalls on a runtime that has no builder."""
    runtime = seen.fn.spec.runtime
    if runtime is None or seen.fn.spec.source.image is not None:
        return GO
    if runtime.release() not in settings.runtimes.get(runtime.language, ()):
        asked = f"{runtime.language.value} {runtime.release()}"
        return Stall(Reason.UNKNOWN_RUNTIME, f"runtime {asked} has no builder; known: {_known(settings)}")
    draft.runtime = runtime
    return GO


def _known(settings: ReconcileSettings) -> str:
    rows = [f"{language.value} {', '.join(versions)}" for language, versions in settings.runtimes.items() if versions]
    return "; ".join(rows) or "none"
