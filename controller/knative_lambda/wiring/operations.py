"""The operations port: probes and metrics of one process, and the places where they look.

Made before everything else, for the bus and the runners tell its metrics what they do; its service is made last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from knative_lambda.api.meta import Key
from knative_lambda.events.base import Bus
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.process import Service
from knative_lambda.machinery.runner import Runner
from knative_lambda.settings import Settings
from knative_lambda.web import app
from knative_lambda.web.bus import MeasuredBus
from knative_lambda.web.figures import Figures, View
from knative_lambda.web.heartbeat import Heartbeat, Workers
from knative_lambda.web.metrics import Metrics
from knative_lambda.web.page import Page
from knative_lambda.web.readiness import ApiServer, Readiness
from knative_lambda.web.requests import MeasuredRequests
from knative_lambda.web.watcher import Watcher
from knative_lambda.wiring import http
from knative_lambda.wiring.caches import Caches
from knative_lambda.wiring.http import Listener
from knative_lambda.wiring.ports import Ports

PATIENCE = 2.0
"""Times the limit of one reconcile, after which a runner that ends nothing counts as stuck."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What the operations port reads of the rest of the process."""

    leads: Callable[[], bool]
    is_stopping: Callable[[], bool]
    runners: Sequence[Runner[Key]]
    """Those that this process runs when it leads."""
    waiting_events: Callable[[], Iterable[str]]
    """Types of events that wait in memory; those in statuses are counted by the watcher."""
    deliveries: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Webhooks received, by forge and outcome."""


class Operations:
    """Metrics of one process, what feeds them, and the port that shows them."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self.metrics = Metrics(clock=clock, functions=settings.metrics_functions)
        self._settings = settings
        self._clock = clock

    def measured(self, bus: Bus) -> Bus:
        """The same bus, counted, if there is anybody at its other end."""
        if self._settings.events == "none":
            return bus
        return MeasuredBus(bus, self.metrics, clock=self._clock)

    def measured_requests(self, served: ASGIApp) -> ASGIApp:
        """The same application, its requests counted."""
        return MeasuredRequests(served, metrics=self.metrics, clock=self._clock)

    def watch(self, watched: Caches, *, leads: Callable[[], bool]) -> Watcher:
        """Hangs on the informers, before they run."""

        def synced() -> bool:
            return watched.functions.synced and watched.jobs.synced and watched.services.synced

        watcher = Watcher(self.metrics, clock=self._clock, leads=self._tells(leads), synced=synced)
        watched.functions.on_change(watcher.function)
        watched.jobs.on_change(watcher.job)
        watched.services.on_change(watcher.service)
        return watcher

    def services(
        self, ports: Ports, watched: Caches, watcher: Watcher, looks: Looks, *, routes: Sequence[BaseRoute] = ()
    ) -> list[Service]:
        """What must run first and end last; nothing where the port is switched off. `routes` hang beside our own."""
        settings = self._settings
        if not settings.http_port:
            return []
        workers = [_workers(runner, watched, looks.leads) for runner in looks.runners]
        heartbeat = Heartbeat(clock=self._clock, workers=workers)
        readiness = Readiness(
            informers=watched.all(),
            api_server=ApiServer(ports.cluster, Key(settings.lease_namespace, settings.lease_name), clock=self._clock),
            bus=ports.bus,
            leads=looks.leads,
            is_stopping=looks.is_stopping,
        )
        listener = Listener("operations", settings.http_host, settings.http_port)
        served = self._app(heartbeat, readiness, self._page(watched, watcher, looks), routes)
        return [Service("heartbeat", heartbeat.run), http.service(listener, served)]

    def _app(self, heartbeat: Heartbeat, readiness: Readiness, page: Page, routes: Sequence[BaseRoute]) -> Starlette:
        return app.build(
            heartbeat=heartbeat,
            readiness=readiness,
            page=page,
            metrics=self.metrics,
            clock=self._clock,
            routes=routes,
        )

    def _tells(self, leads: Callable[[], bool]) -> Callable[[], bool]:
        """Functions are told of by the one process that leads their controller."""
        return leads if "functions" in self._settings.controllers else lambda: False

    def _page(self, watched: Caches, watcher: Watcher, looks: Looks) -> Page:
        def waiting() -> Mapping[str, int]:
            return watcher.outbox + Counter(looks.waiting_events())

        view = View(
            services=watched.services.store,
            jobs=watched.jobs.store,
            waiting_events=waiting,
            leads=self._tells(looks.leads),
            deliveries=looks.deliveries,
        )
        return Page(self.metrics, Figures(view, self.metrics), clock=self._clock)


def _workers(runner: Runner[Key], watched: Caches, leads: Callable[[], bool]) -> Workers:
    """Nobody works before the caches are full."""
    return Workers(
        name=runner.name,
        waiting=lambda: runner.waiting,
        handled=lambda: runner.handled,
        leads=lambda: leads() and all(informer.synced for informer in watched.all()),
        limit=PATIENCE * runner.timeout,
    )
