"""The steps of one reconcile, in their order: `step(seen, draft, settings) -> Go | Wait | Stall`, pure.

A step marks its conditions and adds the writes it wants to the draft. It waits only for what it needs, so a build that
runs or fails keeps nobody else back. A new step is a module here and a line in STEPS.
"""

from __future__ import annotations

from collections.abc import Callable

from knative_lambda.reconcile.plan import Draft, Verdict
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot
from knative_lambda.reconcile.steps import (
    build,
    dead_letter,
    eventing,
    finalize,
    orphans,
    serve,
    source,
    spec,
    triggers,
)

Step = Callable[[Snapshot, Draft, ReconcileSettings], Verdict]

STEPS: tuple[Step, ...] = (
    spec.step,
    source.step,
    build.step,
    serve.step,
    eventing.step,
    triggers.step,
    dead_letter.step,
    orphans.step,
    finalize.step,
)
