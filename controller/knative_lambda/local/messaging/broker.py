"""The Broker of local mode: plays Knative Eventing's RabbitMQ Broker inside this process.

Events come in through `ingress`, wait on disk in `backlog`, go out through `lanes` and `delivery`, and end among the
dead letters; `eventing` keeps Brokers and Triggers. Made by local.dev.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.routing import BaseRoute

from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Cluster
from knative_lambda.events import encoding
from knative_lambda.events.dead_letters import DeadLetters
from knative_lambda.events.encoding import Message
from knative_lambda.kit.clock import Clock
from knative_lambda.local.messaging import delivery, ingress
from knative_lambda.local.messaging.backlog import Backlog
from knative_lambda.local.messaging.delivery import Call, Courier, Notice, Reception, Told, What
from knative_lambda.local.messaging.eventing import Eventing
from knative_lambda.local.messaging.lanes import Lanes
from knative_lambda.machinery.process import Service


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Limits, and where the ingress is reached."""

    url: str = "http://127.0.0.1:8080"
    """Of local mode's one port, without a path; it becomes part of a Broker's address."""
    event_bytes: int = encoding.BODY_LIMIT
    """Of one event."""
    queue_length: int = 10_000
    """Events that wait for one function."""
    store_bytes: int = 512 * 1024 * 1024
    """Of all events on disk."""
    hops: int = 32
    """Replies to replies that are followed."""
    grace: float = 5.0
    """Seconds that functions have to answer when the process ends."""


DEFAULTS = BrokerOptions()


class LocalBroker:
    """All Brokers of this process."""

    def __init__(
        self,
        cluster: Cluster,
        call: Call,
        letters: DeadLetters,
        store: Path,
        *,
        clock: Clock,
        options: BrokerOptions = DEFAULTS,
        told: Told | None = None,
    ) -> None:
        """`store`: file of accepted events. `told` hears of every event. Raises events.sqlite.StateError."""
        self._clock = clock
        self._options = options
        self._told = told
        self._backlog = Backlog(store, limit_bytes=options.store_bytes, now=clock.now())
        self._courier = Courier(call, letters, self._publish, clock=clock, hops=options.hops, told=self._tell)
        self._lanes = Lanes(
            self._backlog,
            self._courier.deliver,
            clock=clock,
            queue_length=options.queue_length,
        )
        self._eventing = Eventing(cluster, self._lanes, clock=clock, url=options.url)

    def routes(self) -> list[BaseRoute]:
        """The ingress."""
        known, limit = self._eventing.knows, self._options.event_bytes
        return [ingress.route(known, self._publish, clock=self._clock, limit=limit)]

    def services(self) -> list[Service]:
        """What runs: ends by letting functions answer that were called already."""
        patience = self._options.grace + 10.0
        return [Service("broker", self._eventing.run, drain=self._drain, patience=patience)]

    def waiting(self, trigger: Key) -> int:
        """Events that wait for a Trigger's function, or are being delivered to it."""
        return self._lanes.waiting(trigger)

    async def _publish(self, broker: Key, message: Message, trace: Mapping[str, str], hops: int) -> Reception:
        """As delivery.Publish says. Called by the ingress and by functions' replies."""
        reception = await self._lanes.publish(broker, message, trace, hops)
        if not reception.problem:
            what = What.ACCEPTED if reception.queues else What.UNWANTED
            self._tell(Notice(what, broker, message.attributes["type"], message.attributes["id"]))
        return reception

    async def _drain(self) -> None:
        self._courier.stop()
        await self._lanes.close(self._courier.calling, grace=self._options.grace)
        await self._backlog.close()

    def _tell(self, notice: Notice) -> None:
        if self._told is not None:
            delivery.tell(self._told, notice)
