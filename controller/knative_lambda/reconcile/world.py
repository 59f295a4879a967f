"""Everything that one reconcile may touch, as ports and stores; made once by wiring.

FUNCTION_INDEXES and CHILD_INDEXES are the indexes that the informers' stores must be given. Jobs and Pods are watched
by `child.BUILD_SELECTOR`; Services and Triggers without a selector: a stranger's object under our name must be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from knative_lambda.cluster.base import Cluster
from knative_lambda.events.base import Bus
from knative_lambda.events.dead_letters import DeadLetterQueues
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.recorder import Recorder
from knative_lambda.reconcile.freshness import BY_FUNCTION, Fresh
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.settled import Settled
from knative_lambda.resources.observed import BrokerSeen, FunctionSeen, JobSeen, PodSeen, ServiceSeen, TriggerSeen
from knative_lambda.sources.base import Sources

BY_BROKER = "broker"


def by_function(seen: JobSeen | PodSeen | TriggerSeen) -> Iterable[Hashable]:
    """Index of children: the function that their labels name."""
    return (seen.function,)


def by_broker(seen: FunctionSeen) -> Iterable[Hashable]:
    """Index of functions: (namespace, Broker) of each trigger."""
    return tuple((seen.key.namespace, broker) for broker in seen.brokers)


FUNCTION_INDEXES: Mapping[str, Callable[[FunctionSeen], Iterable[Hashable]]] = {BY_BROKER: by_broker}
CHILD_INDEXES: Mapping[str, Callable[[Any], Iterable[Hashable]]] = {BY_FUNCTION: by_function}
"""For jobs, pods and triggers; services and brokers are found by key."""


@dataclass(frozen=True, slots=True)
class World:
    """Ports, stores with our own writes on top, and what is remembered between reconciles."""

    cluster: Cluster
    sources: Sources
    bus: Bus
    recorder: Recorder
    clock: Clock
    settings: ReconcileSettings
    functions: Fresh[FunctionSeen]
    jobs: Fresh[JobSeen]
    pods: Fresh[PodSeen]
    services: Fresh[ServiceSeen]
    triggers: Fresh[TriggerSeen]
    brokers: Fresh[BrokerSeen]
    dead_letters: DeadLetterQueues | None = None
    """None where dead letters are switched off."""
    settled: Settled = field(default_factory=Settled)
