"""How many requests per second this client sends: a token bucket that keeps order and wakes nobody early."""

from __future__ import annotations

import math

from knative_lambda.kit.clock import Clock


class TokenBucket:
    """At most `rate` tokens a second, `burst` of them at once; rate 0 or inf means no limit.

    It keeps one number, the time at which the bucket will be full again (the generic cell rate algorithm), so
    callers are served in the order in which they came and a wait costs one timer.
    """

    def __init__(self, *, rate: float, burst: int, clock: Clock) -> None:
        self._clock = clock
        self._interval = 0.0 if rate <= 0 or math.isinf(rate) else 1.0 / rate
        self._slack = self._interval * max(burst - 1, 0)
        self._full_at = -math.inf

    async def take(self) -> None:
        """Returns when a request may go out; a caller that is cancelled meanwhile gives its token back."""
        if not self._interval:
            return
        now = self._clock.monotonic()
        start = max(self._full_at, now)
        self._full_at = start + self._interval
        wait = start - self._slack - now
        if wait <= 0:
            return
        try:
            await self._clock.sleep(wait)
        except BaseException:
            self._full_at -= self._interval
            raise
