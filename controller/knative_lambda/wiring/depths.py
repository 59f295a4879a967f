"""How many dead letters wait: asked of RabbitMQ now and then by the process that leads, shown as operator_dlq_depth.

Asked are the queues that functions' own statuses call ready, of those functions that have series of their own, and the
catch-all queue. No request goes to the API server. Run by wiring.controller beside the controllers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from knative_lambda.api.meta import Key
from knative_lambda.events.dead_letters import DeadLetterDepths
from knative_lambda.kit.clock import Clock
from knative_lambda.resources import names
from knative_lambda.web.metrics import CATCH_ALL, Metrics
from knative_lambda.web.watcher import Watcher

INTERVAL = 30.0
"""Seconds between two rounds, unless there are many queues."""
PER_QUEUE = 0.1
"""Seconds between two rounds for each queue: asking for one costs 0.1 ms of CPU, so about 0.1 % of a core at most."""
JITTER = 0.1
"""Part of the interval by which it varies, so that several installations do not ask in step."""
GLANCE = 2.0
"""Seconds until it is seen that RabbitMQ went away, or came back."""
ABSENT = 600.0
"""Seconds for which a queue that was not there is left alone: each such question is an error in RabbitMQ's log."""


class Depths:
    """Feeds Metrics.dead_letters while it runs. Figures that cannot be renewed are removed, not shown as fresh."""

    name = "depths"

    def __init__(
        self,
        letters: DeadLetterDepths,
        metrics: Metrics,
        *,
        functions: Callable[[], Collection[Key]],
        clock: Clock,
    ) -> None:
        """`functions` is asked in each round: those whose queues are counted."""
        self._letters = letters
        self._figures = metrics.dead_letters
        self._functions = functions
        self._clock = clock
        self._absent: dict[Key, float] = {}
        """Queues that were not there, and when they are asked for again."""

    async def run(self) -> None:
        """Until cancelled; the figures go with it."""
        due = self._clock.monotonic()
        try:
            while True:
                if not self._letters.connected:
                    self._forget()
                    due = self._clock.monotonic()
                elif self._clock.monotonic() >= due:
                    due = self._clock.monotonic() + await self._ask()
                await self._clock.sleep(GLANCE)
        finally:
            self._forget()

    def _forget(self) -> None:
        """What comes back after an absence may be another RabbitMQ."""
        self._figures.clear()
        self._absent.clear()

    async def _ask(self) -> float:
        """One round; seconds until the next."""
        wanted = [CATCH_ALL, *self._functions()]
        now = self._clock.monotonic()
        self._absent = {key: until for key, until in self._absent.items() if until > now}
        queues = {_queue(key): key for key in wanted if key not in self._absent}
        found = await self._letters.depths(list(queues))
        if found is None:
            self._forget()
            return GLANCE
        self._absent |= {key: now + ABSENT for queue, key in queues.items() if queue not in found}
        self._show({queues[queue]: depth for queue, depth in found.items()})
        interval = max(INTERVAL, PER_QUEUE * len(queues))
        return interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing

    def _show(self, figures: dict[Key, int]) -> None:
        """Without functions that went while RabbitMQ was asked."""
        there = {CATCH_ALL, *self._functions()}
        self._figures.clear()
        self._figures.update({key: depth for key, depth in figures.items() if key in there})


def counted(watcher: Watcher, metrics: Metrics) -> Callable[[], Collection[Key]]:
    """Functions with a queue and with series of their own, which are at most `metrics_functions`."""

    def functions() -> Collection[Key]:
        return [key for key in watcher.with_queue if metrics.series.name(key) == key]

    return functions


def _queue(key: Key) -> str:
    return names.DEAD_LETTER_QUEUE if key == CATCH_ALL else names.dead_letter_queue(key)
