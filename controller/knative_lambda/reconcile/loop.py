"""One reconcile of one function. The whole controller is this screen, run for every key that changed."""

from __future__ import annotations

from knative_lambda.api.meta import Key
from knative_lambda.machinery.runner import Requeue
from knative_lambda.reconcile.act import act
from knative_lambda.reconcile.decide import decide
from knative_lambda.reconcile.observe import observe
from knative_lambda.reconcile.report import report
from knative_lambda.reconcile.world import World


async def reconcile(key: Key, world: World) -> Requeue | None:
    """Brings one LambdaFunction a step nearer to its spec. Called by machinery.runner.

    Raises the ClusterError of a write that may succeed later; the queue backs off for this key.
    """
    seen = await observe(key, world)  # reads only
    if seen is None:
        return None
    plan = decide(seen, world.settings)  # pure
    outcome = await act(plan, seen, world)  # failures are values
    return await report(seen, plan, outcome, world)  # events, then one status patch
