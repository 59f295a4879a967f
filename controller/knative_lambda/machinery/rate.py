"""A token bucket. Used by the work queue for its reconcile rate limit."""

from __future__ import annotations

from knative_lambda.kit.clock import Clock

_ALMOST = 1 - 1e-9
"""A token that rounding made a little smaller is a token."""


class TokenBucket:
    """Gives `rate` tokens a second and saves up a tenth of a second's worth, at least one; None never says no."""

    def __init__(self, clock: Clock, rate: float | None) -> None:
        self._clock = clock
        self._rate = rate
        self._tokens = self._burst
        self._counted_at = clock.monotonic()

    @property
    def rate(self) -> float | None:
        """Tokens per second; may be set at any time."""
        return self._rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate of {rate} per second never allows anything; use None for no limit")
        self._count()
        self._rate = rate
        self._tokens = min(self._tokens, self._burst)

    @property
    def _burst(self) -> float:
        return max(1.0, (self._rate or 0.0) / 10)

    def _count(self) -> None:
        now = self._clock.monotonic()
        if self._rate is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now

    def take(self) -> bool:
        """Takes a token if there is one."""
        if self._rate is None:
            return True
        self._count()
        if self._tokens < _ALMOST:
            return False
        self._tokens -= 1
        return True

    def wait(self) -> float:
        """Seconds until the next token."""
        if self._rate is None:
            return 0.0
        self._count()
        return max(0.0, 1 - self._tokens) / self._rate
