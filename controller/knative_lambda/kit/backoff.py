"""Exponential backoff with full jitter on the upper half, so that many losers do not return together."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before a numbered attempt (0 is the first repetition)."""

    base: float = 0.2
    cap: float = 300.0
    factor: float = 2.0

    def ceiling(self, attempt: int) -> float:
        """The longest wait of this attempt, before jitter."""
        exponent = min(attempt, 64)
        return min(self.cap, self.base * self.factor**exponent)

    def delay(self, attempt: int) -> float:
        """Between half of the ceiling and the ceiling."""
        ceiling = self.ceiling(attempt)
        return ceiling / 2 + random.random() * ceiling / 2  # noqa: S311 - spreads load, guards nothing
