"""The bookkeeping of publisher confirms, without any broker."""

from __future__ import annotations

import asyncio

import pytest

from knative_lambda.events.confirms import Batch, Ledger


def send(ledger: Ledger, count: int) -> Batch:
    batch = Batch()
    for index in range(count):
        ledger.sent(batch, index)
    return batch


async def test_multiple_ack_confirms_everything_up_to_its_tag() -> None:
    ledger = Ledger(window=10)
    batch = send(ledger, 5)
    ledger.answered(3, multiple=True, accepted=True)
    assert batch.confirmed == {0, 1, 2}
    assert not await batch.settled(0.01)
    ledger.answered(5, multiple=True, accepted=True)
    assert await batch.settled(0)
    assert batch.confirmed == {0, 1, 2, 3, 4}


async def test_tag_zero_with_multiple_means_everything() -> None:
    ledger = Ledger(window=10)
    batch = send(ledger, 3)
    ledger.answered(0, multiple=True, accepted=True)
    assert batch.confirmed == {0, 1, 2}


async def test_answers_may_come_out_of_order() -> None:
    ledger = Ledger(window=10)
    batch = send(ledger, 3)
    ledger.answered(3, multiple=False, accepted=True)
    ledger.answered(1, multiple=False, accepted=True)
    ledger.answered(2, multiple=False, accepted=False)
    assert await batch.settled(0)
    assert batch.confirmed == {0, 2}


async def test_nack_settles_without_confirming() -> None:
    ledger = Ledger(window=10)
    batch = send(ledger, 2)
    ledger.answered(2, multiple=True, accepted=False)
    assert await batch.settled(0)
    assert batch.confirmed == set()


async def test_answers_go_to_the_batch_that_sent() -> None:
    ledger = Ledger(window=10)
    first, second = send(ledger, 2), send(ledger, 2)
    ledger.answered(3, multiple=True, accepted=True)
    assert (first.confirmed, second.confirmed) == ({0, 1}, {0})
    assert await first.settled(0)
    assert not await second.settled(0)


async def test_an_answer_for_an_unknown_tag_changes_nothing() -> None:
    ledger = Ledger(window=10)
    batch = send(ledger, 1)
    ledger.answered(7, multiple=False, accepted=True)
    assert batch.confirmed == set()
    assert ledger.outstanding == 1


async def test_full_window_waits_for_an_answer() -> None:
    ledger = Ledger(window=2)
    send(ledger, 2)
    assert not await ledger.room(0.01)
    waiting = asyncio.create_task(ledger.room(5))
    await asyncio.sleep(0)
    ledger.answered(1, multiple=False, accepted=True)
    assert await waiting


async def test_two_waiters_do_not_both_take_the_last_place() -> None:
    ledger = Ledger(window=1)
    send(ledger, 1)

    async def take() -> None:
        assert await ledger.room(5)
        ledger.sent(Batch(), 0)
        assert ledger.outstanding <= 1

    takers = [asyncio.create_task(take()) for _ in range(2)]
    for tag in (1, 2, 3):
        await asyncio.sleep(0.01)
        ledger.answered(tag, multiple=False, accepted=True)
    await asyncio.gather(*takers)


async def test_lost_connection_settles_every_batch_and_wakes_who_waits_for_room() -> None:
    ledger = Ledger(window=2)
    batch = send(ledger, 2)
    ledger.answered(1, multiple=False, accepted=True)
    ledger.sent(batch, 2)
    waiting = asyncio.create_task(ledger.room(5))
    await asyncio.sleep(0)
    ledger.lose()
    assert not await waiting
    assert await batch.settled(0)
    assert batch.confirmed == {0}
    assert await ledger.drained(0)


async def test_sealed_ledger_takes_nothing_more_and_still_hears_answers() -> None:
    ledger = Ledger(window=10)
    batch = send(ledger, 1)
    ledger.seal()
    assert not await ledger.room(5)
    assert not await ledger.drained(0.01)
    ledger.answered(1, multiple=False, accepted=True)
    assert await ledger.drained(0)
    assert batch.confirmed == {0}


@pytest.mark.parametrize("accepted", [True, False])
async def test_any_answer_ends_a_stall(accepted: bool) -> None:
    ledger = Ledger(window=10)
    send(ledger, 2)
    ledger.stalled = True
    ledger.answered(1, multiple=False, accepted=accepted)
    assert not ledger.stalled
