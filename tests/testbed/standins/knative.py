"""A stand-in for Knative's controllers: writes the status of Services, Brokers and Triggers.

The order of writes, the conditions, reasons and messages are those of Knative Serving 1.22 and Eventing 1.22
with the RabbitMQ broker. Nothing is run, no Revision, Route or Deployment is made.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from tests.testbed.standins.base import Key, Kind, Object, Outcomes, StandIn, condition, stamped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SERVICES = Kind("/apis/serving.knative.dev/v1", "services")
BROKERS = Kind("/apis/eventing.knative.dev/v1", "brokers")
TRIGGERS = Kind("/apis/eventing.knative.dev/v1", "triggers")

_BROKER_CONDITIONS = (
    "ExchangeReady",
    "DLXReady",
    "DeadLetterSinkReady",
    "SecretReady",
    "IngressReady",
    "Addressable",
)


@dataclass(frozen=True, slots=True)
class ServiceOutcome:
    """What becomes of a revision: Ready after `delay` seconds, or failed with `message`, or never either."""

    delay: float = 0.0
    message: str = ""
    ends: bool = True

    @classmethod
    def ready(cls, *, delay: float = 0.0) -> ServiceOutcome:
        """Becomes Ready."""
        return cls(delay=delay)

    @classmethod
    def fail(cls, message: str, *, delay: float = 0.0) -> ServiceOutcome:
        """The revision fails, for example with `Container failed with: ...`."""
        return cls(delay=delay, message=message)

    @classmethod
    def never_end(cls) -> ServiceOutcome:
        """Stays Unknown."""
        return cls(ends=False)


class Knative(StandIn):
    """Plays Serving and Eventing. `outcomes.set("namespace/service pattern", ServiceOutcome...)` decides.

    Each new revision of a Service is one attempt. `in_steps=False` leaves out the statuses between, for
    benchmarks that want one write a Service.
    """

    kinds = (BROKERS, SERVICES, TRIGGERS)

    def __init__(self, *, kubeconfig: Path, default: ServiceOutcome | None = None, in_steps: bool = True) -> None:
        super().__init__(kubeconfig=kubeconfig)
        self.outcomes = Outcomes(default or ServiceOutcome())
        self._in_steps = in_steps
        self._revisions: dict[str, tuple[str, int]] = {}  # uid -> digest of the template, number
        self._playing: dict[Key, tuple[int, asyncio.Task[None]]] = {}

    async def look(self, key: Key, found: Object | None) -> None:
        """One object changed: bring its status up to its generation, and look at the Triggers that hang on it."""
        if key.kind == TRIGGERS:
            if found is not None:
                await self._write(key, found, self._trigger_status(found))
            return
        if found is not None and key.kind == BROKERS:
            await self._write(key, found, _broker_status(found))
        if found is not None and key.kind == SERVICES:
            await self._service(key, found)
        for other in list(self.cache):
            if other.kind == TRIGGERS and other.namespace == key.namespace and self._hangs(other, key):
                self.again(other)

    # ---- Serving ----

    async def _service(self, key: Key, service: Object) -> None:
        generation = service["metadata"]["generation"]
        if service.get("status", {}).get("observedGeneration") == generation and _settled(service):
            return
        if self._playing.get(key, (0, None))[0] == generation:
            return
        self._stop_playing(key)
        number = self._revision(service)
        outcome = self.outcomes.of(key.namespace, key.name, number - 1)
        if outcome.delay or not outcome.ends:
            self._playing[key] = (generation, asyncio.create_task(self._play(key, service, number, outcome)))
        else:
            await self._play(key, service, number, outcome)

    def _stop_playing(self, key: Key) -> None:
        _, task = self._playing.pop(key, (0, None))
        if task is not None:
            task.cancel()

    async def _play(self, key: Key, service: Object, number: int, outcome: ServiceOutcome) -> None:
        statuses = list(_service_statuses(service, number, outcome))
        if outcome.ends and not outcome.delay and not self._in_steps:
            statuses = statuses[-1:]
        for status in statuses[:-1]:
            service = await self._write(key, service, status) or service
        if outcome.ends:
            await asyncio.sleep(outcome.delay)
            await self._write(key, service, statuses[-1])
            if outcome.delay:
                self._playing.pop(key, None)

    def _revision(self, service: Object) -> int:
        """The number of the revision that this template makes; a template seen last time makes no new one."""
        template = hashlib.sha256(
            orjson.dumps(service["spec"].get("template"), option=orjson.OPT_SORT_KEYS)
        ).hexdigest()
        uid = service["metadata"]["uid"]
        known, number = self._revisions.get(uid, ("", _number(service)))
        if known != template:
            number += 1
        self._revisions[uid] = (template, number)
        return number

    # ---- Eventing ----

    def _trigger_status(self, trigger: Object) -> Object:
        namespace, spec = trigger["metadata"]["namespace"], trigger["spec"]
        subscriber = self._resolve(spec.get("subscriber", {}), namespace)
        sink = self._resolve((spec.get("delivery") or {}).get("deadLetterSink") or {}, namespace)
        resolved = [
            self._broker_ready(namespace, spec["broker"]),
            condition("DeadLetterSinkResolved", "True", "" if sink else "DeadLetterSinkNotConfigured"),
            condition("DependencyReady", "True"),
            condition("SubscriberResolved", "True")
            if subscriber
            else condition("SubscriberResolved", "False", "Unable to get the Subscriber's URI", "not found"),
            condition("SubscriptionReady", "True")
            if subscriber
            else condition("SubscriptionReady", "Unknown", "SubscriberNotResolved"),
        ]
        addresses = {"subscriberUri": subscriber, "deadLetterSinkUri": sink}
        return {
            "observedGeneration": trigger["metadata"]["generation"],
            "conditions": _with_ready(resolved),
            **{name: address for name, address in addresses.items() if address},
        }

    def _broker_ready(self, namespace: str, name: str) -> Object:
        broker = self.cache.get(Key(BROKERS, namespace, name))
        if broker is None:
            return condition("BrokerReady", "False", "BrokerDoesNotExist", f'Broker "{name}" does not exist')
        if _settled(broker):
            return condition("BrokerReady", "True")
        return condition("BrokerReady", "Unknown", "BrokerNotReady", f'Broker "{name}" is not ready')

    def _resolve(self, destination: Object, namespace: str) -> str:
        """The address of a destination; empty while a Knative Service has none yet."""
        uri, reference = destination.get("uri", ""), destination.get("ref")
        if not reference:
            return str(uri)
        home = reference.get("namespace") or namespace
        if reference.get("apiVersion", "").startswith("serving.knative.dev/"):
            service = self.cache.get(Key(SERVICES, home, reference["name"])) or {}
            base = service.get("status", {}).get("address", {}).get("url", "")
        else:
            base = f"http://{reference['name']}.{home}.svc.cluster.local"
        return f"{base}{uri}" if base else ""

    def _hangs(self, trigger: Key, on: Key) -> bool:
        spec = self.cache[trigger]["spec"]
        if on.kind == BROKERS:
            return bool(spec["broker"] == on.name)
        sink = (spec.get("delivery") or {}).get("deadLetterSink") or {}
        references = [spec.get("subscriber", {}).get("ref"), sink.get("ref")]
        return any(reference and reference["name"] == on.name for reference in references)

    async def _write(self, key: Key, found: Object, status: Object) -> Object | None:
        """Write a status unless it is there already."""
        before = found.get("status") or {}
        conditions = stamped(status["conditions"], before.get("conditions") or [])
        wanted = {**status, "conditions": conditions}
        if all(before.get(name) == value for name, value in wanted.items()):
            return found
        return await self.patch_status(key, wanted)


def _settled(found: Object) -> bool:
    """Whether Ready is decided, either way, for the newest generation (Services), or True (Brokers)."""
    status = found.get("status") or {}
    ready = [one["status"] for one in status.get("conditions") or [] if one["type"] == "Ready"]
    return bool(ready) and ready[0] != "Unknown"


def _with_ready(conditions: Sequence[Object]) -> list[Object]:
    """Conditions with the Ready that follows from them: the first False decides, then the first Unknown."""
    ready = condition("Ready", "True")
    for status in ("False", "Unknown"):
        blocking = [one for one in conditions if one["status"] == status]
        if blocking:
            ready = {**blocking[0], "type": "Ready"}
            break
    return sorted([*conditions, ready], key=lambda one: str(one["type"]))


def _number(service: Object) -> int:
    created = service.get("status", {}).get("latestCreatedRevisionName", "")
    return int(created.rpartition("-")[2]) if created else 0


def _service_statuses(service: Object, number: int, outcome: ServiceOutcome) -> Iterator[Object]:
    """The statuses that one generation goes through, in the order of the real controller; the last is final."""
    name, generation = service["metadata"]["name"], service["metadata"]["generation"]
    revision = f"{name}-{number:05d}"
    had_one = bool(service.get("status", {}).get("latestReadyRevisionName"))
    base: Object = {"observedGeneration": generation, "latestCreatedRevisionName": revision}
    waiting = f'Configuration "{name}" is waiting for a Revision to become ready.'
    missing = condition("RoutesReady", "Unknown", "RevisionMissing", waiting)
    routes = condition("RoutesReady", "True") if had_one else missing
    yield {**base, "conditions": _with_ready([condition("ConfigurationsReady", "Unknown"), routes])}
    if outcome.message:
        yield {**base, "conditions": _failed(name, revision, outcome.message, had_one=had_one)}
        return
    if not outcome.ends:
        yield base
        return
    built = {**base, "latestReadyRevisionName": revision}
    unrouted = condition("RoutesReady", "Unknown", "IngressNotConfigured", "Ingress has not yet been reconciled.")
    yield {**built, "conditions": _with_ready([condition("ConfigurationsReady", "True"), unrouted])}
    yield (
        built
        | _addresses(service, revision)
        | {"conditions": _with_ready([condition("ConfigurationsReady", "True"), condition("RoutesReady", "True")])}
    )


def _failed(name: str, revision: str, message: str, *, had_one: bool) -> list[Object]:
    """A first revision that fails leaves the route without any; a later one leaves the old route working."""
    failed = condition(
        "ConfigurationsReady", "False", "RevisionFailed", f'Revision "{revision}" failed with message: {message}.'
    )
    without = f'Configuration "{name}" does not have any ready Revision.'
    if had_one:
        return _with_ready([failed, condition("RoutesReady", "True")])
    return _with_ready([condition("RoutesReady", "False", "RevisionMissing", without), failed])


def _addresses(service: Object, revision: str) -> Object:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    return {
        "url": f"http://{name}.{namespace}.example.com",
        "address": {"url": f"http://{name}.{namespace}.svc.cluster.local"},
        "traffic": [{"latestRevision": True, "percent": 100, "revisionName": revision}],
    }


def _broker_status(broker: Object) -> Object:
    name, namespace = broker["metadata"]["name"], broker["metadata"]["namespace"]
    return {
        "observedGeneration": broker["metadata"]["generation"],
        "conditions": _with_ready([condition(kind, "True") for kind in _BROKER_CONDITIONS]),
        "address": {"name": "http", "url": f"http://{name}-broker-ingress.{namespace}.svc.cluster.local"},
    }
