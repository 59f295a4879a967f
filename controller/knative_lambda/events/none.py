"""No listeners: the bus of `--events none`."""

from __future__ import annotations

from collections.abc import Sequence

from knative_lambda.api.events import Event


class NoBus:
    """Confirms everything and keeps nothing. Called through the port by reconcile; chosen by wiring."""

    @property
    def connected(self) -> bool:
        return True

    @property
    def problem(self) -> str:
        return ""

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:  # noqa: ARG002 - the port's signature
        return ()

    async def start(self) -> None:
        return None

    async def close(self) -> None:
        return None
