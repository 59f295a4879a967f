"""The memory twin of a mailbox: looks into MemoryLetters. Passed by tests of whoever needs a Mailbox."""

from __future__ import annotations

from collections.abc import Callable

from knative_lambda.events.dead_letters import Letter
from knative_lambda.events.mailbox import Parked
from knative_lambda.events.memory_letters import MemoryLetters


class MemoryMailbox:
    """The port over letters in this process."""

    def __init__(self, letters: MemoryLetters) -> None:
        self._queues = letters.queues

    def depth(self, queue: str) -> int | None:
        """As the port says."""
        return len(self._queues[queue]) if queue in self._queues else None

    def peek(self, queue: str, limit: int) -> list[Parked]:
        """As the port says."""
        return [_parked(letter) for letter in list(self._queues.get(queue, ()))[:limit]]

    def drain(self, queue: str, limit: int, deliver: Callable[[Parked], bool]) -> tuple[int, int]:
        """As the port says."""
        offered = list(self._queues.get(queue, ()))[:limit]
        delivered = 0
        for letter in offered:
            if deliver(_parked(letter)):
                self._queues[queue].remove(letter)
                delivered += 1
        return delivered, len(offered) - delivered

    def purge(self, queue: str) -> int:
        """As the port says."""
        kept = self._queues.get(queue)
        count = len(kept or ())
        if kept is not None:
            kept.clear()
        return count

    def close(self) -> None:
        """There is nothing to end."""


def _parked(letter: Letter) -> Parked:
    return Parked(letter.body, letter.content_type, dict(letter.headers))
