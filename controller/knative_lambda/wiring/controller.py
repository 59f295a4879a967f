"""The controller's process: caches, queues, runners and the Lease, started and ended in order.

Called by `kn-lambda controller`. Only this package knows which adapter stands behind which port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from knative_lambda import __version__
from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Cluster, WriteFenced
from knative_lambda.events.dead_letters import DeadLetterDepths, DeadLetters
from knative_lambda.gitsync.base import Checkout
from knative_lambda.gitsync.requests import SyncRequests
from knative_lambda.kit.clock import Clock, SystemClock
from knative_lambda.machinery.election import Election
from knative_lambda.machinery.process import Service, freeze_when_synced, serve
from knative_lambda.machinery.queue import WorkQueue
from knative_lambda.machinery.recorder import Recorder
from knative_lambda.machinery.runner import Runner
from knative_lambda.settings import Settings
from knative_lambda.web.watcher import Watcher
from knative_lambda.wiring import adapters, caches, dead_letters, depths, functions, repositories, webhooks
from knative_lambda.wiring.caches import Caches, Scope
from knative_lambda.wiring.depths import Depths
from knative_lambda.wiring.farewell import Farewell
from knative_lambda.wiring.operations import Looks, Operations
from knative_lambda.wiring.ports import Ports
from knative_lambda.wiring.webhooks import Webhooks

NOTICES_PER_SECOND = 20.0
"""Kubernetes Events are written slowly: in a burst, every one of them would cost somebody's Job a place in the line."""

log = structlog.get_logger(__name__)


class Gate:
    """Asked before every write leaves: Leases pass, everything else only while this process leads."""

    def __init__(self) -> None:
        self.election: Election | None = None
        """None where no Lease is held because there is only one replica."""

    def is_open(self) -> bool:
        return self.election is None or self.election.may_write()

    def check(self, kind: Kind) -> None:
        """Raises WriteFenced."""
        if kind != kinds.LEASE and not self.is_open():
            raise WriteFenced(f"refused to write {kind}: this process does not lead")


@dataclass(frozen=True, slots=True)
class Connections:
    """What is open to the world outside while the process runs."""

    ports: Ports
    asking: Cluster
    """The receivers' own client, which may write although this process does not lead."""
    checkout: Checkout
    letters: DeadLetters | None = None
    """None where dead letters are switched off."""
    beside: Sequence[Service] = ()
    """What must run before the first controller does and after the last: in local mode, what plays the cluster."""
    depths: DeadLetterDepths | None = None
    """Where dead letters are counted; None where nobody counts them."""


Connect = Callable[[Settings, Clock, Gate, Operations], AbstractAsyncContextManager[Connections]]


@asynccontextmanager
async def connected(settings: Settings, clock: Clock, gate: Gate, operations: Operations) -> AsyncIterator[Connections]:
    """Opens every connection to a cluster and RabbitMQ, and closes them again, the one needed longest at the end."""
    async with AsyncExitStack() as stack:
        cluster = await adapters.cluster(settings, clock=clock, before_write=gate.check)
        stack.push_async_callback(cluster.close)
        asking = await adapters.cluster(settings, clock=clock, before_write=webhooks.only_asks)
        stack.push_async_callback(asking.close)
        bus = operations.measured(adapters.bus(settings, clock=clock))
        stack.push_async_callback(bus.close)
        await bus.start()
        checkout = adapters.checkout(settings)
        stack.push_async_callback(checkout.close)
        letters = dead_letters.letters(settings, clock=clock)
        if letters is not None:
            stack.push_async_callback(letters.close)
            await letters.start()
        queues = dead_letters.queues(settings, letters, cluster, clock=clock)
        recorder = Recorder(cluster, clock=clock, instance=settings.identity, rate=NOTICES_PER_SECOND)
        ports = Ports(cluster=cluster, bus=bus, recorder=recorder, clock=clock, dead_letters=queues)
        yield Connections(ports, asking, checkout, letters=letters, depths=letters)


async def run(settings: Settings, *, stop: asyncio.Event, connect: Connect = connected) -> None:
    """Runs a controller until `stop` is set; returns after everything ended in order."""
    clock, gate = SystemClock(), Gate()
    operations = Operations(settings, clock=clock)
    log.info("controller starting", version=__version__, namespaces=list(settings.namespaces) or "all")
    async with connect(settings, clock, gate, operations) as connections:
        stages = _assembled(settings, connections, gate, operations, stop)
        await serve([list(connections.beside), *stages], stop=stop, clock=clock)
    log.info("controller stopped")


def _assembled(
    settings: Settings, connections: Connections, gate: Gate, operations: Operations, stop: asyncio.Event
) -> list[list[Service]]:
    """Caches, what hangs on them, and everything that runs, in stages: started first to last, ended last to first."""
    ports = connections.ports
    scope = Scope(namespaces=settings.namespaces, build_namespace=settings.build_namespace)
    watched = caches.make(ports.cluster, scope, clock=ports.clock)
    watcher = operations.watch(watched, leads=gate.is_open)
    farewell = Farewell(ports.bus, clock=ports.clock, is_leader=gate.is_open)
    watched.functions.on_change(farewell.heard)
    queue: WorkQueue[Key] = WorkQueue(clock=ports.clock)
    requests = SyncRequests(queue.add)
    runners = [
        functions.runner(settings, ports, watched, observer=watcher.reconciled),
        repositories.runner(ports, watched, checkout=connections.checkout, queue=queue, requests=requests),
    ]
    chosen = [runner for runner in runners if runner.name in settings.controllers]
    hooks = _webhooks(settings, connections, watched, look=partial(_look, gate, requests), operations=operations)
    looks = Looks(gate.is_open, stop.is_set, chosen, farewell.waiting, hooks.counts.deliveries if hooks else {})
    counting = _depths(settings, connections, watcher, operations)
    lead = _leading(settings, ports, gate, _lead_when_synced(watched, [*chosen, *counting], requests))
    sink = dead_letters.routes(connections.letters, metrics=operations.metrics, clock=ports.clock)
    first = operations.services(ports, watched, watcher, looks, routes=sink)
    return [first, *_stages(ports, watched, farewell, lead, hooks)]


def _webhooks(
    settings: Settings,
    connections: Connections,
    watched: Caches,
    *,
    look: Callable[[Key], bool],
    operations: Operations,
) -> Webhooks | None:
    if not settings.webhook_port:
        return None
    clock, measured = connections.ports.clock, operations.measured_requests
    return webhooks.build(settings, connections.asking, watched, clock=clock, look=look, measured=measured)


def _depths(settings: Settings, connections: Connections, watcher: Watcher, operations: Operations) -> list[Depths]:
    """What counts dead letters, where functions are told of and there are any."""
    if connections.depths is None or "functions" not in settings.controllers:
        return []
    metrics, clock = operations.metrics, connections.ports.clock
    return [Depths(connections.depths, metrics, functions=depths.counted(watcher, metrics), clock=clock)]


def _look(gate: Gate, requests: SyncRequests, key: Key) -> bool:
    """Marks a repository where this process leads; the mark of another process would wait for its turn to lead."""
    if not gate.is_open():
        return False
    requests.mark(key)
    return True


def _stages(
    ports: Ports, watched: Caches, farewell: Farewell, lead: Callable[[], Awaitable[None]], hooks: Webhooks | None
) -> list[list[Service]]:
    """Started first to last, ended last to first: what reads, what tells, what writes."""
    return [
        [Service(f"informer {informer.kind}", informer.run) for informer in watched.all()],
        [
            Service("recorder", ports.recorder.run, drain=ports.recorder.drain),
            Service("farewell", farewell.run, drain=farewell.drain),
            *(hooks.telling if hooks else ()),
        ],
        [
            Service("garbage collection", partial(_freeze, watched)),
            Service("controllers", lead),
            *(hooks.listening if hooks else ()),
        ],
    ]


def _lead_when_synced(
    watched: Caches, runners: Sequence[Runner[Key] | Depths], requests: SyncRequests
) -> Callable[[], Awaitable[None]]:
    """What a leader runs; nothing is decided before every cache is full.

    Every repository is looked at anew: what the last leader was asked, it may have taken with it.
    """

    async def lead() -> None:
        for informer in watched.all():
            await informer.wait_synced()
        for repo in watched.repositories.store.values():
            requests.mark(repo.key)
        log.info("controller ready", functions=len(watched.functions.store))
        async with asyncio.TaskGroup() as group:
            for runner in runners:
                group.create_task(runner.run(), name=runner.name)

    return lead


def _leading(
    settings: Settings, ports: Ports, gate: Gate, lead: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """`lead`, whenever this process holds the Lease, if there is one."""
    if not settings.leader_elect:
        return lead
    gate.election = _election(settings, ports)
    return partial(gate.election.run, lead)


def _election(settings: Settings, ports: Ports) -> Election:
    return Election(
        ports.cluster,
        clock=ports.clock,
        namespace=settings.lease_namespace,
        name=settings.lease_name,
        identity=settings.identity,
    )


async def _freeze(watched: Caches) -> None:
    """Takes the filled caches out of garbage collection, and stays, as a service must."""
    await freeze_when_synced([informer.wait_synced for informer in watched.all()])
    await asyncio.Event().wait()
