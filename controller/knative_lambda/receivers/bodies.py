"""Reads a request's body within limits of size and time, and never holds more than that. Used by reception."""

from __future__ import annotations

from collections.abc import AsyncIterator

from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.timing import within
from knative_lambda.receivers.base import Headers
from knative_lambda.receivers.outcomes import Outcome, Refused

JSON = "application/json"
HELD_BYTES = 64 * 1024 * 1024


def check_headers(headers: Headers, *, limit: int) -> None:
    """Refuses by what is announced, before a byte of the body is read."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Refused(Outcome.NOT_JSON)
    announced = headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):
        raise Refused(Outcome.MALFORMED)
    if len(announced) > 15 or int(announced) > limit:
        raise Refused(Outcome.TOO_LARGE)


class Budget:
    """Bytes of all bodies in memory at once, however many senders there are."""

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self.limit = limit
        self.held = 0

    def take(self, count: int) -> None:
        """Raises Refused when there would be too many."""
        if self.held + count > self.limit:
            raise Refused(Outcome.BUSY)
        self.held += count

    def give_back(self, count: int) -> None:
        self.held -= count


async def read(stream: AsyncIterator[bytes], budget: Budget, *, limit: int, seconds: float, clock: Clock) -> bytes:
    """At most `limit` bytes, within `seconds` from first to last. The caller gives them back to the budget."""
    try:
        return await within(clock, seconds, _collect(stream, budget, limit))
    except TimeoutError:
        raise Refused(Outcome.TOO_SLOW) from None


async def _collect(stream: AsyncIterator[bytes], budget: Budget, limit: int) -> bytes:
    parts, size = [], 0
    try:
        async for part in stream:
            if size + len(part) > limit:
                raise Refused(Outcome.TOO_LARGE)
            budget.take(len(part))
            size += len(part)
            parts.append(part)
    except BaseException:
        budget.give_back(size)
        raise
    return b"".join(parts)
