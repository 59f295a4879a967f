"""How many instances a revision should have. Pure; called by pool at every tick and at every request that waits."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Bounds of one revision, as its annotations say; `most` 0 is no bound of its own."""

    least: int = 0
    most: int = 0
    target: int = 100
    """Requests at once that one instance should have."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a revision has to do."""

    peak: int
    """Most requests at once, running and waiting, in the window that ends now."""
    idle: float
    """Seconds since the last request ended, or since the first instance was there; 0 while one runs."""


def desired(load: Load, scale: Scale, *, grace: float, host_limit: int) -> int:
    """Instances that should run: enough for the peak, one more until `grace` is over, then the least.

    `host_limit` is how many instances of one function this machine is ready to bear.
    """
    wanted = math.ceil(load.peak / scale.target)
    if wanted == 0 and load.idle < grace:
        wanted = 1
    most = min(scale.most or host_limit, host_limit)
    return max(min(wanted, most), min(scale.least, host_limit))


class Window:
    """The most of a number over the last seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._falling: deque[tuple[float, int]] = deque()
        """Numbers, falling, each with the moment at which a higher one was over."""

    def note(self, now: float, number: int) -> None:
        """`now` never goes back."""
        since = now
        while self._falling and self._falling[-1][1] < number:
            since, _ = self._falling.pop()
        if not self._falling or self._falling[-1][1] != number:
            self._falling.append((since, number))

    def peak(self, now: float) -> int:
        """The last number that was noted counts for as long as no other was."""
        while len(self._falling) > 1 and self._falling[1][0] <= now - self._seconds:
            self._falling.popleft()
        return self._falling[0][1] if self._falling else 0
