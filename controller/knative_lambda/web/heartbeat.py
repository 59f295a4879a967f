"""The loop's heartbeat: what /livez answers from. `run` is one of the process's services.

A loop that stalls cannot answer its probe at all, and a restart is what it needs: the kubelet's own timeout does that.
A stall that is over is told and logged, but a restart would not undo it. What a probe cannot see is a process that
answers and yet does nothing: workers with keys to handle, of which none ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from knative_lambda.kit.clock import Clock

PERIOD = 1.0
STALL = 0.5
"""A beat that comes so many seconds too late was held up."""
SILENCE = 15.0
"""Without a beat for so many seconds while the loop answers, the heartbeat itself is dead."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Workers:
    """One runner as the heartbeat sees it."""

    name: str
    waiting: Callable[[], int]
    """Keys that could be handled now."""
    handled: Callable[[], int]
    """Keys that were handled so far, well or not."""
    leads: Callable[[], bool]
    """Whether they are to be handled by this process."""
    limit: float
    """Seconds within which one key must end while others wait; more than the time limit of one reconcile."""


@dataclass(slots=True)
class _Watched:
    workers: Workers
    handled: int
    progress_at: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """What /livez tells."""

    problems: tuple[str, ...]
    """Why a restart would help; none in a process that is well."""
    last_beat: float
    """Seconds since the last beat."""
    longest_stall: float
    """Seconds of the longest stall since the start."""
    stalls: int


class Heartbeat:
    """Beats once a second."""

    def __init__(self, *, clock: Clock, workers: Sequence[Workers] = ()) -> None:
        self._clock = clock
        now = clock.monotonic()
        self._beat_at = now
        self._longest = 0.0
        self._stalls = 0
        self._watched = [_Watched(one, one.handled(), now) for one in workers]

    async def run(self) -> None:
        """Until cancelled."""
        self._beat_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(PERIOD)
            self._beat()

    def pulse(self) -> Pulse:
        """The state of the loop now."""
        now = self._clock.monotonic()
        silence = now - self._beat_at
        problems = [f"no heartbeat for {silence:.0f} s"] if silence > SILENCE else []
        for watched in self._watched:
            idle = now - watched.progress_at
            if idle > watched.workers.limit and _is_due(watched.workers):
                problems.append(f"{watched.workers.name}: keys wait, and none was handled for {idle:.0f} s")
        return Pulse(tuple(problems), silence, self._longest, self._stalls)

    def _beat(self) -> None:
        now = self._clock.monotonic()
        late = now - self._beat_at - PERIOD
        self._beat_at = now
        if late >= STALL:
            self._stalls += 1
            self._longest = max(self._longest, late)
            log.warning("the loop was held up", seconds=round(late, 2), longest=round(self._longest, 2))
        for watched in self._watched:
            handled = watched.workers.handled()
            if handled != watched.handled or not _is_due(watched.workers):
                watched.handled, watched.progress_at = handled, now


def _is_due(workers: Workers) -> bool:
    return workers.leads() and workers.waiting() > 0
