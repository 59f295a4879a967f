"""The controller of FunctionRepositories: its world, its queue and what wakes it."""

from __future__ import annotations

from functools import partial

from knative_lambda.api.meta import Key
from knative_lambda.gitsync.base import Checkout
from knative_lambda.gitsync.handlers import function_changed, repository_changed
from knative_lambda.gitsync.loop import sync
from knative_lambda.gitsync.observed import RepositorySeen
from knative_lambda.gitsync.requests import SyncRequests
from knative_lambda.gitsync.world import SyncWorld
from knative_lambda.machinery.queue import WorkQueue
from knative_lambda.machinery.runner import Runner
from knative_lambda.resources.observed import FunctionSeen
from knative_lambda.wiring.caches import Caches
from knative_lambda.wiring.ports import Ports

WORKERS = 8
"""Repositories that are synced at once; their git processes share a smaller pool."""
SYNC_TIMEOUT = 900.0
"""Seconds of one sync: two git commands within spec.timeout each, and a minute of writing."""


def runner(
    ports: Ports, watched: Caches, *, checkout: Checkout, queue: WorkQueue[Key], requests: SyncRequests
) -> Runner[Key]:
    """Hangs the handlers on the informers; the runner is started by whoever leads. `requests` wakes `queue`."""
    _listen(watched, queue)
    world = SyncWorld(
        cluster=ports.cluster,
        clock=ports.clock,
        repositories=watched.repositories.store,
        functions=watched.functions.store,
        checkout=checkout,
        requests=requests,
        recorder=ports.recorder,
    )
    return Runner(
        "repositories", queue, partial(sync, world=world), clock=ports.clock, workers=WORKERS, timeout=SYNC_TIMEOUT
    )


def _listen(watched: Caches, queue: WorkQueue[Key]) -> None:
    def repository(_key: Key, old: RepositorySeen | None, new: RepositorySeen | None) -> None:
        for key in repository_changed(old, new):
            queue.add(key)

    def function(_key: Key, old: FunctionSeen | None, new: FunctionSeen | None) -> None:
        for key in function_changed(old, new):
            queue.add(key)

    watched.repositories.on_change(repository)
    watched.functions.on_change(function)
