"""What RabbitMQ, a SQLite file and memory have in common as keepers of dead letters: one contract for all three.

What only a RabbitMQ can do, or suffer, is in test_dead_letters.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.events.dead_letters import DeadLetterDepths, DeadLetterQueues, DeadLetters, Letter
from knative_lambda.events.mailbox import Mailbox, Parked
from knative_lambda.events.memory_letters import MemoryLetters
from knative_lambda.events.memory_mailbox import MemoryMailbox
from knative_lambda.events.rabbitmq import Options
from knative_lambda.events.rabbitmq_letters import RabbitMQLetters
from knative_lambda.events.rabbitmq_mailbox import RabbitMQMailbox
from knative_lambda.events.sqlite_letters import SqliteLetters
from knative_lambda.events.sqlite_mailbox import SqliteMailbox
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import SystemClock
from knative_lambda.resources import names
from tests.testbed import fixtures
from tests.testbed.rabbitmq import RabbitMQBed

rabbitmq_bed = fixtures.rabbitmq_bed
vhost_url = fixtures.vhost_url
uncaptured = fixtures.uncaptured

pytestmark = pytest.mark.contract

ORDERS = Key("shop", "orders")
QUEUE = names.dead_letter_queue(ORDERS)
SMALL = 10
"""Letters that a queue of the test of full queues takes."""


class Letters(DeadLetters, DeadLetterQueues, DeadLetterDepths, Protocol):
    """The ports of events.dead_letters."""


class Post(Protocol):
    """One place where letters are kept."""

    def letters(self, *, small: bool = False) -> contextlib.AbstractAsyncContextManager[Letters]: ...

    def mailbox(self) -> Mailbox: ...


class RabbitMQPost:
    def __init__(self, url: str, bed: RabbitMQBed) -> None:
        self._url = url
        self._bed = bed

    @contextlib.asynccontextmanager
    async def letters(self, *, small: bool = False) -> AsyncIterator[Letters]:
        letters = RabbitMQLetters(
            Options(url=self._url), clock=SystemClock(), declares=True, backoff=Backoff(0.05, 0.5)
        )
        if small:
            await self._limit()
        await letters.start()
        try:
            async with asyncio.timeout(20):
                while not letters.connected:
                    await asyncio.sleep(0.02)
            yield letters
        finally:
            await letters.close()

    def mailbox(self) -> Mailbox:
        return RabbitMQMailbox(self._url)

    async def _limit(self) -> None:
        """The smaller of policy and argument holds."""
        vhost = quote(unquote(urlsplit(self._url).path[1:]), safe="")
        definition = {"max-length": SMALL, "overflow": "drop-head"}
        body = {"pattern": "^knative-lambda-dlq", "apply-to": "queues", "definition": definition}
        self._bed.management("PUT", f"/api/policies/{vhost}/small", body)
        await asyncio.sleep(1)


class SqlitePost:
    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.asynccontextmanager
    async def letters(self, *, small: bool = False) -> AsyncIterator[Letters]:
        letters = SqliteLetters(self._path, max_length=SMALL) if small else SqliteLetters(self._path)
        try:
            yield letters
        finally:
            await letters.close()

    def mailbox(self) -> Mailbox:
        return SqliteMailbox(self._path)


class MemoryPost:
    def __init__(self) -> None:
        self._letters = MemoryLetters()

    @contextlib.asynccontextmanager
    async def letters(self, *, small: bool = False) -> AsyncIterator[Letters]:
        if small:
            self._letters.queues[QUEUE] = deque(maxlen=SMALL)
        yield self._letters

    def mailbox(self) -> Mailbox:
        return MemoryMailbox(self._letters)


@pytest.fixture(params=["memory", "sqlite", "rabbitmq"])
def post(request: pytest.FixtureRequest, tmp_path: Path) -> Post:
    if request.param == "memory":
        return MemoryPost()
    if request.param == "sqlite":
        return SqlitePost(tmp_path / "state" / "letters.db")
    return RabbitMQPost(request.getfixturevalue("vhost_url"), request.getfixturevalue("rabbitmq_bed"))


@contextlib.contextmanager
def opened(post: Post) -> Iterator[Mailbox]:
    box = post.mailbox()
    try:
        yield box
    finally:
        box.close()


def letter(number: int, function: Key = ORDERS, *, body: bytes | None = None) -> Letter:
    headers = {"ce-id": f"e-{number}", "ce-knativeerrorcode": "500"}
    content = f'{{"n":{number}}}'.encode() if body is None else body
    return Letter(f"l-{number}", names.dead_letter_key(function), content, "application/json", headers)


def number_of(parked: Parked) -> str:
    return parked.headers["ce-id"]


async def test_letter_lands_in_its_functions_queue_with_all_that_came(post: Post) -> None:
    async with post.letters() as letters:
        assert (await letters.ensure(ORDERS)).is_ready
        assert (await letters.ensure(ORDERS)).is_ready
        assert await letters.park(letter(1, body=b"\x00\xff"))
    with opened(post) as box:
        assert box.depth(QUEUE) == 1
        assert box.depth(names.DEAD_LETTER_QUEUE) == 0
        found = box.peek(QUEUE, 5)
    assert found == [Parked(b"\x00\xff", "application/json", {"ce-id": "e-1", "ce-knativeerrorcode": "500"})]


async def test_letter_of_an_unknown_function_lands_in_the_catch_all(post: Post) -> None:
    async with post.letters() as letters:
        assert await letters.park(letter(1, Key("nowhere", "nobody")))
    with opened(post) as box:
        assert box.depth(names.DEAD_LETTER_QUEUE) == 1
        assert box.depth(QUEUE) is None


async def test_letters_outlive_whoever_parked_them(post: Post) -> None:
    async with post.letters() as letters:
        await letters.ensure(ORDERS)
        assert await letters.park(letter(1))
    async with post.letters() as letters:
        assert await letters.park(letter(2))
        assert await letters.depths([QUEUE]) is not None
    with opened(post) as box:
        assert [number_of(one) for one in box.peek(QUEUE, 5)] == ["e-1", "e-2"]


async def test_letters_are_counted_and_a_queue_that_is_not_there_is_left_out(post: Post) -> None:
    async with post.letters() as letters:
        await letters.ensure(ORDERS)
        for number in range(3):
            assert await letters.park(letter(number))
        unknown = names.dead_letter_queue(Key("no", "body"))
        assert await letters.depths([QUEUE, names.DEAD_LETTER_QUEUE, unknown]) == {
            QUEUE: 3,
            names.DEAD_LETTER_QUEUE: 0,
        }
        assert await letters.depths([]) == {}
        assert letters.connected


async def test_full_queue_keeps_the_newest(post: Post) -> None:
    async with post.letters(small=True) as letters:
        await letters.ensure(ORDERS)
        for number in range(SMALL + 5):
            assert await letters.park(letter(number))
    with opened(post) as box:
        assert [number_of(one) for one in box.peek(QUEUE, 50)] == [f"e-{number}" for number in range(5, SMALL + 5)]


async def test_replay_takes_out_only_what_was_accepted(post: Post) -> None:
    async with post.letters() as letters:
        await letters.ensure(ORDERS)
        for number in range(4):
            await letters.park(letter(number))
    offered: list[str] = []

    def accepts(one: Parked) -> bool:
        offered.append(number_of(one))
        return number_of(one) != "e-1"

    with opened(post) as box:
        assert box.drain(QUEUE, 10, accepts) == (3, 1)
        assert offered == ["e-0", "e-1", "e-2", "e-3"]
        assert [number_of(one) for one in box.peek(QUEUE, 10)] == ["e-1"]
        assert box.purge(QUEUE) == 1
        assert box.depth(QUEUE) == 0


async def test_replay_stops_at_its_limit(post: Post) -> None:
    async with post.letters() as letters:
        await letters.ensure(ORDERS)
        for number in range(4):
            await letters.park(letter(number))
    with opened(post) as box:
        assert box.drain(QUEUE, 2, lambda _: True) == (2, 0)
        assert [number_of(one) for one in box.peek(QUEUE, 10)] == ["e-2", "e-3"]


async def test_looking_fifty_times_loses_nothing(post: Post) -> None:
    async with post.letters() as letters:
        await letters.ensure(ORDERS)
        await letters.park(letter(1))
    with opened(post) as box:
        for _ in range(50):
            assert len(box.peek(QUEUE, 1)) == 1


async def test_letters_are_parked_and_replayed_at_the_same_time(post: Post) -> None:
    seen: set[str] = set()

    def drained() -> None:
        with opened(post) as box:
            while len(seen) < 100:
                box.drain(QUEUE, 10, lambda one: bool(seen.add(number_of(one)) or True))

    async with post.letters() as letters:
        await letters.ensure(ORDERS)
        replaying = asyncio.create_task(asyncio.to_thread(drained))
        parked = await asyncio.gather(*(letters.park(letter(number)) for number in range(100)))
        await asyncio.wait_for(replaying, 30)
        assert all(parked)
        assert await letters.depths([QUEUE]) == {QUEUE: 0}
