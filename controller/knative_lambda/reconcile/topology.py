"""Dead-letter queues made through RabbitMQ's topology operator: the other adapter of events.dead_letters.

Its objects are not watched. They are applied and read when a function is looked at, until the operator calls them
ready, and once more after `TRUST` seconds, which puts right what somebody changed. Made by wiring.
"""

from __future__ import annotations

from typing import Any

from knative_lambda.api.conditions import Reason
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import (
    Cluster,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    KindNotInstalled,
    NotFound,
)
from knative_lambda.events.dead_letters import READY, QueueState, awaited, refused
from knative_lambda.kit.clock import Clock
from knative_lambda.resources import dead_letter
from knative_lambda.resources.child import Manifest
from knative_lambda.resources.dead_letter import Topology

TRUST = 600.0
"""Seconds for which a queue that was ready is not looked at again."""

Part = tuple[Kind, Manifest]


class TopologyQueues:
    """The port, by objects of rabbitmq.com/v1beta1."""

    def __init__(self, cluster: Cluster, topology: Topology, *, clock: Clock) -> None:
        self._cluster = cluster
        self._topology = topology
        self._clock = clock
        self._ready_at: dict[Key | None, float] = {}

    async def ensure(self, function: Key) -> QueueState:
        """As the port says. The shared objects come first: without them nothing of a function's is written."""
        try:
            shared = await self._made(None, dead_letter.shared(self._topology))
            if not shared.is_ready:
                return shared
            return await self._made(function, dead_letter.of_function(self._topology, function))
        except KindNotInstalled as error:
            message = f"RabbitMQ's topology operator is not installed: {error.message}"
            return refused(message, Reason.KIND_NOT_INSTALLED)
        except Conflict as error:
            return refused(f"somebody else owns it: {error.message}", Reason.NOT_OWNED)
        except (Invalid, Forbidden) as error:
            return refused(error.message)
        except ClusterError as error:
            return awaited(error.message)

    async def _made(self, whose: Key | None, parts: list[Part]) -> QueueState:
        """`whose` is None for the shared objects. Every kind is read before anything is written: all or nothing."""
        since = self._ready_at.get(whose)
        if since is not None and self._clock.monotonic() - since < TRUST:
            return READY
        found = [await self._read(part) for part in parts]
        states = [await self._one(part, there) for part, there in zip(parts, found, strict=True)]
        worst = min(states, key=lambda state: (state.is_ready, not state.needs_person))
        if worst.is_ready:
            self._ready_at[whose] = self._clock.monotonic()
        return worst

    async def _read(self, part: Part) -> Manifest | None:
        kind, manifest = part
        try:
            return await self._cluster.get(kind, _key(manifest))
        except KindNotInstalled:
            raise
        except NotFound:
            return None

    async def _one(self, part: Part, there: Manifest | None) -> QueueState:
        """Applied when a field of ours is not as wanted; a stranger's object is never forced."""
        kind, manifest = part
        if there is None or not _covers(manifest["spec"], there.get("spec")):
            there = await self._cluster.apply(kind, manifest, force=False)
        return _state(kind, there)


def _key(manifest: Manifest) -> Key:
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _covers(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_covers(value, found.get(name)) for name, value in wanted.items())
    return bool(wanted == found) or (wanted == "" and found is None)


def _state(kind: Kind, obj: Manifest) -> QueueState:
    """The operator's own word, for this generation. An object that never succeeded has no observedGeneration."""
    name = f"{kind.kind} {obj['metadata']['name']}"
    status = obj.get("status") or {}
    ready: Manifest = next((one for one in status.get("conditions") or [] if one.get("type") == "Ready"), {})
    if ready.get("status") == "False":
        return refused(f"{name}: {ready.get('message') or ready.get('reason') or 'not ready'}")
    generation = obj["metadata"].get("generation", 0)
    if ready.get("status") == "True" and status.get("observedGeneration") == generation:
        return READY
    return awaited(f"{name} waits for RabbitMQ's topology operator")
