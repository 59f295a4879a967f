"""Deliveries that were accepted a moment ago, so that the same one again asks for nothing. Used by reception."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from knative_lambda.kit.clock import Clock

SECONDS = 3600.0
LIMIT = 10_000

Identity = tuple[str, str, bytes]


def identity(uid: str, delivery_id: str, body: bytes) -> Identity:
    """Of repository, delivery and body: no forge signs the id, so an id alone could be spent by somebody else."""
    return uid, delivery_id, hashlib.sha256(body).digest()


class Accepted:
    """Bounded in number and time; forgetting one costs one look."""

    def __init__(self, clock: Clock, *, seconds: float = SECONDS, limit: int = LIMIT) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limit = limit
        self._since: OrderedDict[Identity, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, one: Identity) -> bool:
        since = self._since.get(one)
        return since is not None and self._clock.monotonic() - since < self._seconds

    def add(self, one: Identity) -> None:
        """The oldest go when there are too many, and all that are too old."""
        now = self._clock.monotonic()
        self._since[one] = now
        self._since.move_to_end(one)
        while len(self._since) > self._limit or now - next(iter(self._since.values())) >= self._seconds:
            self._since.popitem(last=False)
