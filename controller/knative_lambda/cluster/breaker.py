"""A circuit breaker: after several failures in a row the server is left alone for a while.

Called by transport around every request except those of the Lease lane.
"""

from __future__ import annotations

import math
from enum import StrEnum

from knative_lambda.cluster.base import CircuitOpen
from knative_lambda.kit.clock import Clock


class Circuit(StrEnum):
    """CLOSED lets everything through, OPEN nothing, HALF_OPEN one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens after `failures` in a row, allows one probe after `seconds`, closes when that probe succeeds.

    In a row means one after the other: fifty requests that one restart of the server cuts are one failure, for each of
    them was sent before anybody knew of it.
    """

    def __init__(self, *, failures: int, seconds: float, clock: Clock) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._failed_at = -math.inf
        self._opened_at = 0.0
        self._probing = False
        self._open = False

    @property
    def state(self) -> Circuit:
        if not self._open:
            return Circuit.CLOSED
        return Circuit.HALF_OPEN if self._clock.monotonic() - self._opened_at >= self._seconds else Circuit.OPEN

    def check(self) -> None:
        """Raises CircuitOpen when a request would be refused now; claims nothing."""
        state = self.state
        if state is Circuit.OPEN or (state is Circuit.HALF_OPEN and self._probing):
            left = max(0.0, self._opened_at + self._seconds - self._clock.monotonic())
            raise CircuitOpen(
                f"not asked: the API server failed {self._limit} times in a row; next try in {left:.0f} s",
                retry_after=left or 1.0,
            )

    def enter(self) -> float:
        """Like check, and claims the one probe of a half-open circuit. Must be followed by one of the three below.

        Returns the time, for `failed`.
        """
        self.check()
        self._probing = self._open
        return self._clock.monotonic()

    def succeeded(self) -> None:
        """The server answered with anything but a 5xx. An answer to a question from before the trip proves little."""
        if not self._open or self.state is Circuit.HALF_OPEN:
            self._failures, self._open, self._probing = 0, False, False

    def failed(self, entered: float) -> None:
        """The request, let in at that time, ended in a 5xx, a timeout or a broken connection."""
        if entered < self._failed_at:
            return
        self._failures += 1
        self._failed_at = self._clock.monotonic()
        if self._open and self.state is Circuit.OPEN:
            return
        if self._open or self._failures >= self._limit:
            self._open, self._probing, self._opened_at = True, False, self._clock.monotonic()

    def abandoned(self) -> None:
        """The caller was cancelled before an answer came: nothing was learnt, the next one may probe."""
        self._probing = False
