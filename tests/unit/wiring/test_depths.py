"""Counting dead letters: who is counted, how often, and what is shown while RabbitMQ cannot be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from knative_lambda.api.conditions import ConditionType, Reason, Status
from knative_lambda.api.meta import Key
from knative_lambda.events.dead_letters import Letter
from knative_lambda.events.memory_letters import MemoryLetters
from knative_lambda.kit.clock import ManualClock
from knative_lambda.resources import names
from knative_lambda.resources.observed import FunctionSeen, project_function
from knative_lambda.web.metrics import CATCH_ALL, Metrics
from knative_lambda.web.watcher import Watcher
from knative_lambda.wiring import depths
from knative_lambda.wiring.depths import ABSENT, GLANCE, INTERVAL, Depths
from tests import gen

ORDERS, INVOICES = Key("shop", "orders"), Key("shop", "invoices")
ROUND = 1.1 * INTERVAL + GLANCE
"""Seconds after which a round has surely been made anew."""


class Watched(MemoryLetters):
    """The twin, with a record of what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []

    async def depths(self, queues: Sequence[str]) -> Mapping[str, int] | None:
        self.asked.append(list(queues))
        return await super().depths(queues)


class Desk:
    """A leader's counting, on a clock that the test moves."""

    def __init__(self, *, functions: int = 1000) -> None:
        self.clock = ManualClock()
        self.letters = Watched()
        self.metrics = Metrics(clock=self.clock, functions=functions)
        self.watcher = Watcher(self.metrics, clock=self.clock, leads=lambda: True, synced=lambda: True)
        self.counting = Depths(
            self.letters, self.metrics, functions=depths.counted(self.watcher, self.metrics), clock=self.clock
        )

    @property
    def figures(self) -> dict[Key, int]:
        return self.metrics.dead_letters

    async def function(self, key: Key, *, has_queue: bool = True, queue_says: Status = Status.TRUE) -> FunctionSeen:
        """One that the watcher has seen; its status says that its queue is there."""
        if has_queue:
            await self.letters.ensure(key)
        ready = gen.with_condition(ConditionType.DLQ_READY, queue_says, Reason.DLQ_READY)
        seen = project_function(gen.raw_function(key.name, ready, namespace=key.namespace))
        self.watcher.function(key, None, seen)
        return seen

    async def park(self, key: Key, count: int = 1) -> None:
        for number in range(count):
            assert await self.letters.park(Letter(f"l-{number}", names.dead_letter_key(key), b"{}"))

    @contextmanager
    def running(self) -> Iterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.counting.run())
        try:
            yield task
        finally:
            task.cancel()


async def test_letters_are_counted_when_this_process_begins_to_lead_and_again_in_each_round() -> None:
    desk = Desk()
    await desk.function(ORDERS)
    await desk.park(ORDERS, 2)
    await desk.park(Key("no", "body"))
    with desk.running():
        await desk.clock.advance(0)
        assert desk.figures == {ORDERS: 2, CATCH_ALL: 1}
        await desk.park(ORDERS)
        await desk.clock.advance(0.8 * INTERVAL)
        assert desk.figures[ORDERS] == 2
        await desk.clock.advance(ROUND)
        assert desk.figures[ORDERS] == 3


async def test_only_functions_whose_status_calls_the_queue_ready_are_asked_for() -> None:
    desk = Desk()
    await desk.function(ORDERS)
    await desk.function(INVOICES, has_queue=False, queue_says=Status.UNKNOWN)
    with desk.running():
        await desk.clock.advance(0)
    assert desk.letters.asked == [[names.DEAD_LETTER_QUEUE, names.dead_letter_queue(ORDERS)]]


async def test_at_most_as_many_functions_are_asked_for_as_have_series_of_their_own() -> None:
    desk = Desk(functions=3)
    for number in range(10):
        await desk.function(Key("shop", f"fn-{number}"))
    with desk.running():
        await desk.clock.advance(0)
        assert len(desk.figures) == 3 + 1


async def test_a_function_that_is_gone_loses_its_figure_at_once_and_is_asked_for_no_more() -> None:
    desk = Desk()
    seen = await desk.function(ORDERS)
    with desk.running():
        await desk.clock.advance(0)
        assert ORDERS in desk.figures
        desk.watcher.function(ORDERS, seen, None)
        assert set(desk.figures) == {CATCH_ALL}
        await desk.clock.advance(ROUND)
    assert desk.letters.asked[-1] == [names.DEAD_LETTER_QUEUE]


async def test_a_function_that_goes_while_rabbitmq_is_asked_gets_no_figure() -> None:
    desk = Desk()
    seen = await desk.function(ORDERS)
    asked = asyncio.Event()

    async def slowly(queues: Sequence[str]) -> Mapping[str, int] | None:
        await asked.wait()
        return dict.fromkeys(queues, 7)

    desk.letters.depths = slowly  # type: ignore[method-assign] # the twin answers at once
    with desk.running():
        await desk.clock.advance(0)
        desk.watcher.function(ORDERS, seen, None)
        asked.set()
        await desk.clock.advance(0)
        assert desk.figures == {CATCH_ALL: 7}


async def test_while_rabbitmq_is_away_no_figure_is_shown_and_all_are_back_soon_after_it() -> None:
    desk = Desk()
    await desk.function(ORDERS)
    await desk.park(ORDERS)
    with desk.running():
        await desk.clock.advance(0)
        assert desk.figures[ORDERS] == 1
        desk.letters.disconnect()
        await desk.clock.advance(GLANCE)
        assert desk.figures == {}
        await desk.clock.advance(5 * INTERVAL)
        desk.letters.connect()
        await desk.clock.advance(GLANCE)
        assert desk.figures[ORDERS] == 1


async def test_an_answer_that_never_came_removes_the_figures_and_is_asked_for_again() -> None:
    desk = Desk()
    await desk.function(ORDERS)
    answers: list[Mapping[str, int] | None] = [{names.dead_letter_queue(ORDERS): 4}, None]

    async def told(_queues: Sequence[str]) -> Mapping[str, int] | None:
        return answers.pop(0) if answers else {names.dead_letter_queue(ORDERS): 5}

    desk.letters.depths = told  # type: ignore[method-assign] # a link that breaks in the middle
    with desk.running():
        await desk.clock.advance(0)
        assert desk.figures == {ORDERS: 4}
        while answers:
            await desk.clock.advance(GLANCE)
        assert desk.figures == {}
        await desk.clock.advance(GLANCE)
        assert desk.figures == {ORDERS: 5}


async def test_a_queue_that_is_not_there_has_no_figure_and_is_left_alone_for_a_while() -> None:
    desk = Desk()
    await desk.function(ORDERS, has_queue=False)
    queue = names.dead_letter_queue(ORDERS)
    with desk.running():
        await desk.clock.advance(0)
        assert desk.figures == {CATCH_ALL: 0}
        await desk.letters.ensure(ORDERS)
        await desk.clock.advance(ABSENT - 1)
        assert sum(queue in asked for asked in desk.letters.asked) == 1
        await desk.clock.advance(ROUND + 1)
        assert desk.figures == {CATCH_ALL: 0, ORDERS: 0}


async def test_with_many_queues_rounds_are_rarer() -> None:
    desk = Desk(functions=2000)
    for number in range(2000):
        await desk.function(Key("shop", f"fn-{number}"))
    with desk.running():
        await desk.clock.advance(175)
        assert len(desk.letters.asked) == 1
        await desk.clock.advance(50)
        assert len(desk.letters.asked) == 2


async def test_who_leads_no_more_shows_nothing() -> None:
    desk = Desk()
    with desk.running() as task:
        await desk.clock.advance(0)
        assert desk.figures == {CATCH_ALL: 0}
    await asyncio.wait({task})
    assert desk.figures == {}
