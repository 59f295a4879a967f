"""The port to whoever listens to our events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from knative_lambda.api.events import Event


class Bus(Protocol):
    """Takes events and says which of them are safe."""

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:
        """Sends in order and returns those that were NOT confirmed (empty is success).

        Never raises for a broker that is away: it returns what was not confirmed, at once while disconnected and
        after the confirm timeout otherwise. The caller keeps the rest and sends it later under the same ids.
        """
        ...

    @property
    def connected(self) -> bool:
        """Whether a publish has a chance right now."""
        ...

    @property
    def problem(self) -> str:
        """Why it is not connected, for readiness and people; empty while it is. Holds no credentials."""
        ...

    async def start(self) -> None:
        """Begins to connect, in the background; a broker that is away is retried with backoff for ever."""
        ...

    async def close(self) -> None:
        """Waits for outstanding confirms (bounded) and disconnects."""
        ...
