"""Which functions a change makes worth a look, and how urgently. Given by wiring to the informers.

Nothing hangs on *what* changed: a handler only names keys. What `decide` does not read, and the echo of our own write,
wakes nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from knative_lambda.api.meta import Key
from knative_lambda.machinery.queue import Priority
from knative_lambda.machinery.store import Store
from knative_lambda.reconcile.freshness import Fresh
from knative_lambda.reconcile.world import BY_BROKER, World
from knative_lambda.resources.observed import BrokerSeen, FunctionSeen, JobSeen, PodSeen, ServiceSeen, TriggerSeen

Enqueue = Callable[[Key, Priority], None]
C = TypeVar("C", JobSeen, PodSeen, ServiceSeen, TriggerSeen)


@dataclass(frozen=True, slots=True)
class Handlers:
    """One method per kind, with the signature of machinery.informer.Handler."""

    world: World
    functions: Store[FunctionSeen]
    """With FUNCTION_INDEXES."""
    enqueue: Enqueue

    def function(self, key: Key, old: FunctionSeen | None, new: FunctionSeen | None) -> None:
        """A function that nobody has looked at, or whose spec changed, has a person waiting for it."""
        if new is None:
            self.world.functions.forget(key)
        elif not self.world.functions.is_echo(new):
            self.enqueue(key, urgency(old, new))

    def job(self, key: Key, old: JobSeen | None, new: JobSeen | None) -> None:
        self._child(self.world.jobs, key, old, new)

    def pod(self, key: Key, old: PodSeen | None, new: PodSeen | None) -> None:
        self._child(self.world.pods, key, old, new)

    def service(self, key: Key, old: ServiceSeen | None, new: ServiceSeen | None) -> None:
        self._child(self.world.services, key, old, new)
        if old is not None and new is None:
            self.world.settled.forget(old.uid)

    def trigger(self, key: Key, old: TriggerSeen | None, new: TriggerSeen | None) -> None:
        self._child(self.world.triggers, key, old, new)
        if old is not None and new is None:
            self.world.settled.forget(old.uid)

    def broker(self, key: Key, old: BrokerSeen | None, new: BrokerSeen | None) -> None:
        """Every function with a trigger on it."""
        if new is None:
            self.world.brokers.forget(key)
        if old == new:
            return
        for seen in self.functions.by_index(BY_BROKER, (key.namespace, key.name)):
            self.enqueue(seen.key, Priority.NORMAL)

    def _child(self, fresh: Fresh[C], key: Key, old: C | None, new: C | None) -> None:
        if new is None:
            fresh.forget(key)
        elif fresh.is_echo(new) or old == new:
            return
        for function in {one.function for one in (old, new) if one is not None}:
            self.enqueue(function, Priority.NORMAL)


def urgency(old: FunctionSeen | None, new: FunctionSeen) -> Priority:
    """HIGH for new functions and changes of people, LOW for what is only listed again after a restart."""
    if new.observed_generation != new.generation or new.deleting:
        return Priority.HIGH
    return Priority.LOW if old is None else Priority.NORMAL
