"""Order, deduplication, delays and rates of the work queue."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.queue import FAIRNESS, Priority, QueueClosed, WorkQueue

from .link import settle

HIGH, NORMAL, LOW = Priority


async def _take(queue: WorkQueue[str], count: int) -> list[str]:
    """So many keys, each done at once."""
    taken = []
    for _ in range(count):
        taken.append(await queue.get())
        queue.done(taken[-1])
    return taken


async def test_keys_come_out_in_the_order_they_came_in_and_once() -> None:
    queue = WorkQueue[str](clock=ManualClock())
    for key in ("a", "b", "a", "c"):
        queue.add(key)
    assert len(queue) == 3
    assert await _take(queue, 3) == ["a", "b", "c"]
    assert len(queue) == 0


async def test_higher_priorities_come_first_and_a_second_request_can_raise_a_key() -> None:
    queue = WorkQueue[str](clock=ManualClock())
    queue.add("low", LOW)
    queue.add("raised", LOW)
    queue.add("normal")
    queue.add("high", HIGH)
    queue.add("raised", HIGH)
    queue.add("high", LOW)
    assert queue.depth == {HIGH: 2, NORMAL: 1, LOW: 1}
    assert await _take(queue, 4) == ["high", "raised", "normal", "low"]


async def test_low_priority_does_not_starve_under_endless_high_priority() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add("low", LOW)
    queue.add("normal", NORMAL)
    taken = []
    for number in range(4 * FAIRNESS):
        await clock.advance(0.1)
        queue.add(f"high-{number}", HIGH)
        queue.add(f"more-{number}", HIGH)
        taken += await _take(queue, 1)
    assert {"low", "normal"} <= set(taken)
    assert sum(key.startswith("high") or key.startswith("more") for key in taken) >= 4 * FAIRNESS - 4


async def test_a_key_in_processing_is_not_handed_out_but_comes_again_with_its_highest_priority() -> None:
    queue = WorkQueue[str](clock=ManualClock())
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a", LOW)
    queue.add("a", HIGH)
    queue.add("a", NORMAL)
    queue.add("b")
    assert await queue.get() == "b"
    again = asyncio.create_task(queue.get())
    await settle()
    assert not again.done()
    queue.add("c")
    queue.add("d")
    assert await again == "c"
    queue.done("a")
    assert await queue.get() == "a"
    assert queue.processing == 3


async def test_done_without_a_new_request_hands_nothing_out() -> None:
    queue = WorkQueue[str](clock=ManualClock())
    queue.add("a")
    queue.done(await queue.get())
    assert (len(queue), queue.processing) == (0, 0)


async def test_of_two_delays_the_earlier_wins_in_either_order() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add_after("later-first", 10)
    queue.add_after("later-first", 5)
    queue.add_after("earlier-first", 5)
    queue.add_after("earlier-first", 10)
    taken = asyncio.create_task(_take(queue, 2))
    await clock.advance(4.9)
    assert (taken.done(), queue.delayed) == (False, 2)
    await clock.advance(0.1)
    assert set(await taken) == {"later-first", "earlier-first"}
    await clock.advance(20)
    assert (len(queue), queue.delayed) == (0, 0)


async def test_add_cancels_a_pending_delay() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add_after("a", 5)
    queue.add("a")
    assert queue.delayed == 0
    assert await _take(queue, 1) == ["a"]
    rest = asyncio.create_task(queue.get())
    await clock.advance(60)
    assert not rest.done()
    rest.cancel()


async def test_a_delay_that_was_cancelled_does_not_shorten_a_later_one() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add_after("a", 5)
    queue.add("a")
    await _take(queue, 1)
    queue.add_after("a", 100)
    got = asyncio.create_task(queue.get())
    await clock.advance(99)
    assert not got.done()
    await clock.advance(1)
    assert await got == "a"


async def test_a_shorter_delay_wakes_a_waiter_that_waits_for_a_longer_one() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add_after("far", 100)
    got = asyncio.create_task(queue.get())
    await settle()
    queue.add_after("near", 1)
    await clock.advance(1)
    assert await got == "near"


async def test_a_delay_that_ends_during_processing_makes_the_key_come_again_after_done() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add("a")
    await queue.get()
    queue.add_after("a", 1)
    got = asyncio.create_task(queue.get())
    await clock.advance(2)
    assert not got.done()
    queue.done("a")
    assert await got == "a"


async def test_handing_a_key_out_cancels_the_look_that_was_planned_for_later() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    queue.add("a")
    queue.add_after("a", 5)
    await _take(queue, 1)
    await clock.advance(10)
    assert (queue.delayed, len(queue)) == (0, 0)


async def test_retries_wait_longer_each_time_up_to_the_cap_until_the_key_is_forgotten() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock, backoff=Backoff(base=1, cap=300))
    waits = []
    for _ in range(12):
        waits.append(queue.retry("a"))
        await clock.advance(301)
        assert await _take(queue, 1) == ["a"]
    for attempt, wait in enumerate(waits):
        ceiling = min(300, 2**attempt)
        assert ceiling / 2 <= wait <= ceiling
    assert queue.failures("a") == 12
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.retry("a") <= 1


async def test_the_rate_limit_holds_and_can_be_changed_while_somebody_waits() -> None:
    clock = ManualClock()
    queue = WorkQueue[int](clock=clock, rate=2)
    for number in range(100):
        queue.add(number)
    taken: list[int] = []

    async def take() -> None:
        while True:
            key = await queue.get()
            taken.append(key)
            queue.done(key)

    taker = asyncio.create_task(take())
    await clock.advance(10)
    assert 20 <= len(taken) <= 21
    queue.rate = 0.001
    await clock.advance(10)
    assert len(taken) <= 22
    queue.rate = None
    await settle(1000)
    assert taken == list(range(100))
    taker.cancel()


def test_a_rate_of_nothing_is_refused() -> None:
    queue = WorkQueue[str](clock=ManualClock())
    with pytest.raises(ValueError, match="None for no limit"):
        queue.rate = 0


async def test_closing_ends_everybody_who_waits() -> None:
    queue = WorkQueue[str](clock=ManualClock())
    waiters = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.close()
    ends = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(end) for end in ends] == [QueueClosed] * 3
    with pytest.raises(QueueClosed):
        await queue.get()


async def test_a_waiter_cancelled_at_the_moment_it_is_woken_passes_the_key_on() -> None:
    queue = WorkQueue[str](clock=ManualClock())
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await settle()
    queue.add("a")
    first.cancel()
    assert await second == "a"
    assert first.cancelled() or not first.done()


async def test_the_age_of_the_oldest_key_is_known() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    assert queue.oldest_age == 0
    queue.add("a", LOW)
    await clock.advance(3)
    queue.add("b")
    assert queue.oldest_age == 3
    queue.add("a", HIGH)
    assert queue.oldest_age == 3


async def test_outdated_alarms_do_not_pile_up() -> None:
    queue = WorkQueue[str](clock=ManualClock())
    for _ in range(10_000):
        queue.add_after("a", 600)
        queue.add("a")
        await _take(queue, 1)
    assert len(queue._schedule) < 200


@pytest.mark.parametrize("seed", range(20))
async def test_in_any_interleaving_no_key_is_processed_twice_at_once_and_none_is_lost(seed: int) -> None:
    """Random requests and workers; after the last request of a key a processing of it begins."""
    dice = random.Random(seed)
    clock = ManualClock()
    queue = WorkQueue[int](clock=clock, rate=dice.choice([None, 500.0]))
    busy: Counter[int] = Counter()
    asked: dict[int, int] = {}
    seen: dict[int, int] = {}
    step = 0

    async def work() -> None:
        while True:
            key = await queue.get()
            busy[key] += 1
            assert busy[key] == 1
            seen[key] = step
            ended_well = False
            try:
                await clock.sleep(dice.choice([0, 0, 0.001, 0.5]))
                ended_well = dice.random() > 0.1
            finally:
                busy[key] -= 1
                if ended_well:
                    queue.forget(key)
                else:
                    queue.retry(key)
                queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(5)]
    for step in range(1, 400):
        key = dice.randrange(12)
        asked[key] = step
        if dice.random() < 0.5:
            queue.add(key, dice.choice(list(Priority)))
        else:
            queue.add_after(key, dice.random(), dice.choice(list(Priority)))
        if dice.random() < 0.5:
            await clock.advance(dice.choice([0, 0.01, 0.2]))
        if dice.random() < 0.02:
            workers.pop().cancel()
            workers.append(asyncio.create_task(work()))
    step = 1000
    for worker in workers[1:]:
        worker.cancel()
    await clock.advance(1000)
    broken = [worker for worker in workers if worker.done() and not worker.cancelled()]
    assert not broken
    for worker in workers:
        worker.cancel()
    assert {key for key, at in asked.items() if seen[key] < at} == set()


async def test_a_hundred_thousand_keys_go_through() -> None:
    queue = WorkQueue[int](clock=ManualClock())
    for number in range(100_000):
        queue.add(number)
        queue.add_after(number + 100_000, 1)
    assert (len(queue), queue.delayed) == (100_000, 100_000)
    for number in range(100_000):
        assert await queue.get() == number
        queue.done(number)
    assert len(queue) == 0
