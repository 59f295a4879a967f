"""A small controller that plays Knative Eventing: it makes Brokers and Triggers Ready, and tells lanes where events go.

Level-triggered like every other: whatever changed, the Trigger is looked at with what it names. Run by broker.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Cluster, NotFound, Object
from knative_lambda.kit.clock import Clock
from knative_lambda.local import conditions
from knative_lambda.local.messaging import triggers
from knative_lambda.local.messaging.backlog import BacklogError
from knative_lambda.local.messaging.lanes import Lanes
from knative_lambda.local.messaging.triggers import BrokerSeen, TriggerSeen
from knative_lambda.machinery.informer import Informer
from knative_lambda.machinery.queue import WorkQueue
from knative_lambda.machinery.runner import Requeue, Runner

AGAIN = Requeue(5.0)
"""When a queue could not be removed."""
WORKERS = 10

_BY_BROKER = "broker"
_BY_SUBSCRIBER = "subscriber"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ask:
    """One object to look at."""

    kind: Kind
    key: Key

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.key}"


class Eventing:
    """Brokers and Triggers of every namespace."""

    def __init__(self, cluster: Cluster, lanes: Lanes, *, clock: Clock, url: str) -> None:
        """`url`: where the ingress is reached, without a path."""
        self._cluster = cluster
        self._lanes = lanes
        self._clock = clock
        self._url = url
        self._queue: WorkQueue[Ask] = WorkQueue(clock=clock)
        self._runner = Runner("eventing", self._queue, self._reconcile, clock=clock, workers=WORKERS, grace=2.0)
        self._brokers = Informer(cluster, kinds.BROKER, triggers.project_broker, clock=clock)
        self._addresses = Informer(cluster, kinds.SERVICE, triggers.project_address, clock=clock)
        self._triggers = Informer(
            cluster,
            kinds.TRIGGER,
            triggers.project_trigger,
            clock=clock,
            indexes={_BY_BROKER: lambda one: [one.broker], _BY_SUBSCRIBER: lambda one: [one.subscriber]},
        )
        self._brokers.on_change(self._broker_changed)
        self._addresses.on_change(self._address_changed)
        self._triggers.on_change(lambda key, _old, _new: self._queue.add(Ask(kinds.TRIGGER, key)))

    def knows(self, broker: Key) -> bool:
        """Whether there is that Broker."""
        return self._brokers.store.get(broker) is not None

    async def run(self) -> None:
        """Until cancelled. Nothing is looked at before all is known: a Trigger that is not listed yet is not gone."""
        async with asyncio.TaskGroup() as group:
            for informer in (self._brokers, self._addresses, self._triggers):
                group.create_task(informer.run(), name=f"informer {informer.kind}")
            for informer in (self._brokers, self._addresses, self._triggers):
                await informer.wait_synced()
            group.create_task(self._runner.run(), name="eventing")

    def _broker_changed(self, key: Key, _old: BrokerSeen | None, _new: BrokerSeen | None) -> None:
        self._queue.add(Ask(kinds.BROKER, key))
        self._add_triggers(_BY_BROKER, key)

    def _address_changed(self, key: Key, _old: str | None, _new: str | None) -> None:
        self._add_triggers(_BY_SUBSCRIBER, key)

    def _add_triggers(self, index: str, key: Key) -> None:
        for trigger in self._triggers.store.by_index(index, key):
            self._queue.add(Ask(kinds.TRIGGER, trigger.key))

    async def _reconcile(self, ask: Ask) -> Requeue | None:
        if ask.kind == kinds.BROKER:
            await self._broker(ask.key)
            return None
        trigger = self._triggers.store.get(ask.key)
        if trigger is None:
            return await self._gone(ask.key)
        await self._trigger(trigger)
        return None

    async def _broker(self, key: Key) -> None:
        seen = self._brokers.store.get(key)
        if seen is not None:
            url = f"{self._url}/broker/{key.namespace}/{key.name}"
            await self._write(kinds.BROKER, seen, triggers.broker_status(seen, url, self._clock.now()))

    async def _trigger(self, seen: TriggerSeen) -> None:
        """The way comes first: an event that is sent once the Trigger is Ready finds it."""
        address = self._addresses.store.get(seen.subscriber) if seen.subscriber is not None else None
        found = triggers.resolved(seen, self._brokers.store.get(seen.broker), address or "")
        route = triggers.route(seen, found)
        if route is not None:
            self._lanes.put(route)
        await self._write(kinds.TRIGGER, seen, triggers.trigger_status(seen, found, self._clock.now()))

    async def _gone(self, key: Key) -> Requeue | None:
        try:
            await self._lanes.drop(key)
        except BacklogError as error:
            _log.error("queue of a Trigger that is gone cannot be removed", trigger=str(key), problem=str(error))
            return AGAIN
        return None

    async def _write(self, kind: Kind, seen: BrokerSeen | TriggerSeen, status: Object) -> None:
        """A status that is not there yet."""
        if not conditions.differs(status, seen.status):
            return
        try:
            await self._cluster.patch(kind, seen.key, {"status": status}, subresource="status")
        except NotFound:
            _log.debug("object went while its status was written", kind=kind.kind, key=str(seen.key))
