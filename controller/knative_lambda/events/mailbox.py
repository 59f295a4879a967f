"""What a person does with parked letters: count, look, take out. Adapter: rabbitmq_mailbox. Called by cli.dlq."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


class MailboxError(Exception):
    """RabbitMQ cannot be asked, or says no; the text is for people and holds no credentials."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A letter as it lies in its queue."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]


class Mailbox(Protocol):
    """Queues of dead letters. Every call raises MailboxError only."""

    def depth(self, queue: str) -> int | None:
        """Letters that wait; None when there is no such queue."""
        ...

    def peek(self, queue: str, limit: int) -> list[Parked]:
        """The first letters, which all stay; RabbitMQ may put them at the end of the queue."""
        ...

    def drain(self, queue: str, limit: int, deliver: Callable[[Parked], bool]) -> tuple[int, int]:
        """Hands over the first letters, one by one, and takes out those that were accepted: (delivered, left over).

        A letter that is not accepted stays, perhaps at the end of the queue, and is not handed over twice. Should the
        connection end between a delivery and its removal, that one letter is delivered again.
        """
        ...

    def purge(self, queue: str) -> int:
        """Removes every letter; returns how many."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...
