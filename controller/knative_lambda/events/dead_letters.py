"""The ports to RabbitMQ's dead letters: where they are parked, whether a function's queue is there, how many wait.

Called by web.dead_letters (parks), reconcile.observe (asks for queues) and wiring.depths (counts). Adapters:
rabbitmq_letters over AMQP, reconcile.topology through RabbitMQ's topology operator, memory_letters inside this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from knative_lambda.api.conditions import Reason
from knative_lambda.api.meta import Key


@dataclass(frozen=True, slots=True)
class Letter:
    """One HTTP message as it came: nothing of it is interpreted, so nothing of it is lost."""

    id: str
    """Ours, unique; the event's own id is among the headers or in the body."""
    routing_key: str
    body: bytes
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """`ce-` headers of binary mode, and our own notes."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """What is known of a function's dead-letter queue."""

    is_ready: bool
    reason: Reason = Reason.DLQ_READY
    message: str = ""
    needs_person: bool = False
    """Whether waiting alone will not help."""


READY = QueueState(is_ready=True)


def awaited(message: str) -> QueueState:
    """Not there yet."""
    return QueueState(is_ready=False, reason=Reason.DLQ_NOT_READY, message=message)


def refused(message: str, reason: Reason = Reason.DLQ_REFUSED) -> QueueState:
    """Somebody said no, in these words."""
    return QueueState(is_ready=False, reason=reason, message=message, needs_person=True)


class DeadLetters(Protocol):
    """Keeps letters."""

    async def park(self, letter: Letter) -> bool:
        """Whether the letter is stored, confirmed and in a queue. Never raises for a RabbitMQ that is away."""
        ...


class DeadLetterQueues(Protocol):
    """Makes queues."""

    async def ensure(self, function: Key) -> QueueState:
        """Asks for the function's queue unless it is known to be there. Idempotent; never raises.

        Only whoever leads calls it. An answer that is not ready is asked for again by the caller, later.
        """
        ...


class DeadLetterDepths(Protocol):
    """Counts letters."""

    @property
    def connected(self) -> bool:
        """Whether RabbitMQ can be asked."""
        ...

    async def depths(self, queues: Sequence[str]) -> Mapping[str, int] | None:
        """Letters that wait, by name of the queue; a queue that is not there is left out. Never raises.

        None when RabbitMQ is away or does not answer: nothing is known then, of any of them.
        """
        ...
