"""Dead letters in a real RabbitMQ: parked with confirms, kept through a crash, looked at, replayed and purged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote, unquote, urlsplit

import pytest

from knative_lambda.api.conditions import Reason
from knative_lambda.api.meta import Key
from knative_lambda.events.dead_letters import Letter
from knative_lambda.events.mailbox import MailboxError, Parked
from knative_lambda.events.rabbitmq import Options
from knative_lambda.events.rabbitmq_letters import RabbitMQLetters
from knative_lambda.events.rabbitmq_mailbox import RabbitMQMailbox
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import SystemClock
from knative_lambda.resources import dead_letter, names
from tests.testbed import fixtures
from tests.testbed.rabbitmq import QUEUES_WRITTEN, RabbitMQBed

rabbitmq_bed = fixtures.rabbitmq_bed
own_rabbitmq = fixtures.own_rabbitmq
vhost_url = fixtures.vhost_url
uncaptured = fixtures.uncaptured

pytestmark = pytest.mark.contract

ORDERS = Key("shop", "orders")
QUEUE = names.dead_letter_queue(ORDERS)


def letter(number: int, function: Key = ORDERS) -> Letter:
    headers = {"ce-id": f"e-{number}", "ce-knativeerrorcode": "500"}
    return Letter(
        f"l-{number}", names.dead_letter_key(function), f'{{"n":{number}}}'.encode(), "application/json", headers
    )


@contextlib.asynccontextmanager
async def connected(url: str, *, declares: bool = True, confirm_timeout: float = 5.0) -> AsyncIterator[RabbitMQLetters]:
    options = Options(url=url, confirm_timeout=confirm_timeout)
    letters = RabbitMQLetters(options, clock=SystemClock(), declares=declares, backoff=Backoff(0.05, 0.5))
    await letters.start()
    try:
        async with asyncio.timeout(20):
            while not letters.connected:
                await asyncio.sleep(0.02)
        yield letters
    finally:
        await letters.close()


@contextlib.contextmanager
def mailbox(url: str) -> Iterator[RabbitMQMailbox]:
    opened = RabbitMQMailbox(url)
    try:
        yield opened
    finally:
        opened.close()


def number_of(parked: Parked) -> str:
    return parked.headers["ce-id"]


async def test_letter_that_no_queue_takes_is_not_parked(vhost_url: str) -> None:
    async with connected(vhost_url) as letters:
        with mailbox(vhost_url) as box, box._channel() as channel:
            channel.queue_delete(names.DEAD_LETTER_QUEUE)
        assert not await letters.park(letter(1, Key("nowhere", "nobody")))


async def test_refused_declaration_is_an_answer_and_parking_goes_on(vhost_url: str) -> None:
    with mailbox(vhost_url) as box, box._channel() as channel:
        channel.queue_declare(QUEUE, durable=True)
    async with connected(vhost_url) as letters:
        state = await letters.ensure(ORDERS)
        assert (state.is_ready, state.needs_person, state.reason) == (False, True, Reason.DLQ_REFUSED)
        assert "406" in state.message
        assert (await letters.ensure(Key("shop", "invoices"))).is_ready
        assert await letters.park(letter(1))
        with mailbox(vhost_url) as box, box._channel() as channel:
            channel.queue_delete(QUEUE)
        assert (await letters.ensure(ORDERS)).is_ready


async def test_foreign_exchange_of_our_name_is_an_answer_not_a_loop(vhost_url: str) -> None:
    with mailbox(vhost_url) as box, box._channel() as channel:
        channel.exchange_declare(names.DEAD_LETTER_EXCHANGE, "direct", durable=True)
    async with connected(vhost_url) as letters:
        first = letters._link
        state = await letters.ensure(ORDERS)
        assert state.reason is Reason.DLQ_REFUSED
        assert letters._link is first


async def test_full_queue_keeps_the_newest(vhost_url: str, rabbitmq_bed: RabbitMQBed) -> None:
    async with connected(vhost_url) as letters:
        assert (await letters.ensure(ORDERS)).is_ready
        _limit(rabbitmq_bed, vhost_url, 10)
        await asyncio.sleep(1)
        for number in range(15):
            assert await letters.park(letter(number))
        with mailbox(vhost_url) as box:
            kept = [number_of(one) for one in box.peek(QUEUE, 50)]
    assert kept == [f"e-{number}" for number in range(5, 15)]


def _limit(bed: RabbitMQBed, url: str, count: int) -> None:
    """The smaller of policy and argument holds."""
    vhost = quote(unquote(urlsplit(url).path[1:]), safe="")
    definition = {"max-length": count, "overflow": "drop-head"}
    body = {"pattern": "^knative-lambda-dlq", "apply-to": "queues", "definition": definition}
    bed.management("PUT", f"/api/policies/{vhost}/small", body)


async def test_queue_has_its_limits(vhost_url: str, rabbitmq_bed: RabbitMQBed) -> None:
    async with connected(vhost_url) as letters:
        await letters.ensure(ORDERS)
    vhost = quote(unquote(urlsplit(vhost_url).path[1:]), safe="")
    found = rabbitmq_bed.management("GET", f"/api/queues/{vhost}/{quote(QUEUE, safe='')}")
    assert found["type"] == "quorum"
    assert found["arguments"]["x-message-ttl"] == 7 * 24 * 3600 * 1000
    assert found["arguments"]["x-max-length"] == 50_000
    assert found["arguments"]["x-overflow"] == dead_letter.OVERFLOW


async def test_ten_thousand_letters_survive_a_crash_of_rabbitmq(own_rabbitmq: RabbitMQBed) -> None:
    count, gate = 10_000, asyncio.Semaphore(500)
    async with connected(own_rabbitmq.amqp_url, confirm_timeout=60) as letters:
        await letters.ensure(ORDERS)

        async def park(number: int) -> bool:
            async with gate:
                return await letters.park(letter(number))

        assert all(await asyncio.gather(*(park(number) for number in range(count))))
        await asyncio.sleep(QUEUES_WRITTEN)
        own_rabbitmq.kill()
        assert not await letters.park(letter(count))
        own_rabbitmq.start_again()
        async with asyncio.timeout(60):
            while not await letters.park(letter(count)):
                await asyncio.sleep(0.1)
    with mailbox(own_rabbitmq.amqp_url) as box:
        seen: list[str] = []

        def accepts(one: Parked) -> bool:
            seen.append(number_of(one))
            return True

        delivered, left = box.drain(QUEUE, 2 * count, accepts)
    assert (delivered, left) == (count + 1, 0)
    assert sorted(seen) == sorted(f"e-{number}" for number in range(count + 1))


async def test_letters_are_counted_and_a_queue_that_is_not_there_is_left_out(vhost_url: str) -> None:
    functions = [Key("shop", f"fn-{number}") for number in range(12)]
    queues = [names.dead_letter_queue(function) for function in functions]
    async with connected(vhost_url) as letters:
        for function in functions[::2]:
            assert (await letters.ensure(function)).is_ready
        for number in range(3):
            assert await letters.park(letter(number, functions[4]))
        assert await letters.park(letter(1, Key("no", "body")))
        found = await letters.depths([names.DEAD_LETTER_QUEUE, *queues])
        assert found == {names.DEAD_LETTER_QUEUE: 1, **dict.fromkeys(queues[::2], 0), queues[4]: 3}
        assert await letters.depths([]) == {}
        assert await letters.park(letter(4, functions[4])), "the refusals closed their own channels and nothing else"


async def test_nothing_is_counted_while_rabbitmq_is_away_or_goes_in_the_middle(own_rabbitmq: RabbitMQBed) -> None:
    async with connected(own_rabbitmq.amqp_url) as letters:
        await letters.ensure(ORDERS)
        asking = asyncio.create_task(letters.depths([QUEUE] * 100_000))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(own_rabbitmq.kill)
        assert await asyncio.wait_for(asking, 20) is None
        assert await letters.depths([QUEUE]) is None
        await asyncio.to_thread(own_rabbitmq.start_again)
        async with asyncio.timeout(30):
            while (found := await letters.depths([QUEUE])) is None:
                await asyncio.sleep(0.1)
        assert found == {QUEUE: 0}


def test_mailbox_of_a_rabbitmq_that_is_away_says_so_without_the_password() -> None:
    with pytest.raises(MailboxError) as caught:
        RabbitMQMailbox("amqp://me:hunter2@127.0.0.1:1/")
    assert "away" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_queue_is_ready_for_who_asks_before_the_connection_stands(vhost_url: str) -> None:
    """Else every function with triggers would be called not ready, and then ready, when a controller starts."""
    letters = RabbitMQLetters(Options(url=vhost_url), clock=SystemClock(), declares=True)
    await letters.start()
    try:
        assert not letters.connected
        assert (await letters.ensure(ORDERS)).is_ready
    finally:
        await letters.close()


async def test_parking_while_rabbitmq_is_away_fails_at_once() -> None:
    letters = RabbitMQLetters(Options(url="amqp://127.0.0.1:1/"), clock=SystemClock(), declares=True)
    await letters.start()
    try:
        async with asyncio.timeout(1):
            assert not await letters.park(letter(1))
            assert not (await letters.ensure(ORDERS)).needs_person
    finally:
        await letters.close()
