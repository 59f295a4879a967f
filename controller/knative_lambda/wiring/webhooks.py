"""The webhooks' port: receivers on every replica, whether it leads or not.

A replica that leads marks the repository in memory. One that does not lead tells the leader by the annotation that a
person would use (docs/decisions/0005-webhooks-on-every-replica.md), through a client that can write nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp

from knative_lambda.api import kinds, meta
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Cluster, WriteFenced
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.process import Service
from knative_lambda.machinery.recorder import Recorder
from knative_lambda.machinery.timing import micro_time
from knative_lambda.receivers import app
from knative_lambda.receivers.deliveries import Accepted
from knative_lambda.receivers.looks import Looks
from knative_lambda.receivers.outcomes import Counts
from knative_lambda.receivers.reception import Limits, World
from knative_lambda.receivers.tokens import Tokens
from knative_lambda.settings import Settings
from knative_lambda.wiring import http
from knative_lambda.wiring.caches import Caches
from knative_lambda.wiring.http import Listener

CONNECTIONS = 1024
"""At once; what their bodies take in memory is limited by itself."""
WRITABLE = frozenset({kinds.FUNCTION_REPOSITORY, kinds.EVENT})


def only_asks(kind: Kind) -> None:
    """The `before_write` of the receivers' own client, which writes although its process may not lead."""
    if kind not in WRITABLE:
        raise WriteFenced(f"refused to write {kind}: a receiver only asks")


class Doorbell:
    """Asks the leader for a look at a repository. Its one write touches one annotation."""

    def __init__(self, cluster: Cluster, *, clock: Clock, identity: str) -> None:
        self._cluster = cluster
        self._clock = clock
        self._identity = identity

    async def ring(self, key: Key) -> None:
        """Raises ClusterError; NotFound when the repository is gone."""
        stamp = f"{micro_time(self._clock.now())} {self._identity}"[:256]
        patch = {"metadata": {"annotations": {meta.ANNOTATION_RECONCILE: stamp}}}
        await self._cluster.patch(kinds.FUNCTION_REPOSITORY, key, patch)


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What runs, in two stages, and what metrics may count."""

    telling: Sequence[Service]
    """Started before, and so ended after, what writes."""
    listening: Sequence[Service]
    counts: Counts
    looks: Looks


def build(
    settings: Settings,
    asking: Cluster,
    watched: Caches,
    *,
    clock: Clock,
    look: Callable[[Key], bool],
    measured: Callable[[ASGIApp], ASGIApp],
) -> Webhooks:
    """`asking` writes under `only_asks`; `look` marks the repository and is true where this process leads.

    `measured` counts the requests of an application.
    """
    doorbell = Doorbell(asking, clock=clock, identity=settings.identity)

    async def request(key: Key) -> None:
        if not look(key):
            await doorbell.ring(key)

    looks = Looks(request, clock=clock)
    recorder = Recorder(asking, clock=clock, instance=settings.identity)
    world = World(
        repositories=watched.repositories.store,
        functions=watched.functions.store,
        tokens=Tokens(asking, clock=clock),
        ask=looks.ask,
        recorder=recorder,
        clock=clock,
        accepted=Accepted(clock),
        limits=Limits(body_bytes=settings.webhook_body_limit),
    )
    listener = Listener("webhooks", settings.webhook_host, settings.webhook_port, connections=CONNECTIONS)
    telling = (
        Service("webhook notices", recorder.run, drain=recorder.drain),
        Service("looks", looks.run, drain=looks.drain),
    )
    return Webhooks(telling, (_listening(listener, measured(app.build(world)), watched),), world.counts, looks)


def _listening(listener: Listener, served_app: ASGIApp, watched: Caches) -> Service:
    """Opens the port only when the cache can tell a repository's path from an unknown one."""
    served = http.service(listener, served_app)

    async def run() -> None:
        await asyncio.gather(watched.repositories.wait_synced(), watched.functions.wait_synced())
        await served.run()

    return Service(served.name, run, patience=served.patience)
