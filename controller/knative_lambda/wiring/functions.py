"""The controller of LambdaFunctions: its world, its queue and what wakes it."""

from __future__ import annotations

from functools import partial

from knative_lambda.api.meta import Key
from knative_lambda.machinery.queue import WorkQueue
from knative_lambda.machinery.runner import Observer, Runner
from knative_lambda.reconcile.freshness import Fresh
from knative_lambda.reconcile.handlers import Handlers
from knative_lambda.reconcile.loop import reconcile
from knative_lambda.reconcile.world import World
from knative_lambda.settings import Settings
from knative_lambda.wiring import adapters
from knative_lambda.wiring.caches import Caches
from knative_lambda.wiring.ports import Ports


def runner(settings: Settings, ports: Ports, watched: Caches, *, observer: Observer[Key]) -> Runner[Key]:
    """Hangs the handlers on the informers; the runner is started by whoever leads."""
    queue: WorkQueue[Key] = WorkQueue(clock=ports.clock, rate=settings.reconcile_rate or None)
    world = _world(settings, ports, watched)
    _listen(watched, Handlers(world, watched.functions.store, queue.add))
    work = partial(reconcile, world=world)
    return Runner("functions", queue, work, clock=ports.clock, workers=settings.workers, observer=observer)


def _world(settings: Settings, ports: Ports, watched: Caches) -> World:
    return World(
        cluster=ports.cluster,
        sources=adapters.sources(settings),
        bus=ports.bus,
        recorder=ports.recorder,
        clock=ports.clock,
        settings=adapters.reconcile_settings(settings),
        functions=Fresh(watched.functions.store, clock=ports.clock),
        jobs=Fresh(watched.jobs.store, clock=ports.clock),
        pods=Fresh(watched.pods.store, clock=ports.clock),
        services=Fresh(watched.services.store, clock=ports.clock),
        triggers=Fresh(watched.triggers.store, clock=ports.clock),
        brokers=Fresh(watched.brokers.store, clock=ports.clock),
        dead_letters=ports.dead_letters,
    )


def _listen(watched: Caches, handlers: Handlers) -> None:
    watched.functions.on_change(handlers.function)
    watched.jobs.on_change(handlers.job)
    watched.pods.on_change(handlers.pod)
    watched.services.on_change(handlers.service)
    watched.triggers.on_change(handlers.trigger)
    watched.brokers.on_change(handlers.broker)
