"""Reads a request's body within limits of size and time, and never holds more than that. Used by reception."""

from __future__ import annotations

from collections.abc import AsyncIterator

from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.timing import within
from knative_lambda.receivers.base import Headers
from knative_lambda.receivers.outcomes import Outcome, Refused

JSON = "application/json"


def check_headers(headers: Headers, *, limit: int) -> None:
    """Refuses by what is announced, before a byte of the body is read."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Refused(Outcome.NOT_JSON)
    announced = headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):
        raise Refused(Outcome.MALFORMED)
    if len(announced) > 15 or int(announced) > limit:
        raise Refused(Outcome.TOO_LARGE)


async def read(stream: AsyncIterator[bytes], *, limit: int, seconds: float, clock: Clock) -> bytes:
    """At most `limit` bytes, within `seconds` from first to last."""
    try:
        return await within(clock, seconds, _collect(stream, limit))
    except TimeoutError:
        raise Refused(Outcome.TOO_SLOW) from None


async def _collect(stream: AsyncIterator[bytes], limit: int) -> bytes:
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > limit:
            raise Refused(Outcome.TOO_LARGE)
        parts.append(part)
    return b"".join(parts)
