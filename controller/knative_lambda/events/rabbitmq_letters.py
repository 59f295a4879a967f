"""Dead letters to RabbitMQ: parked with confirms, counted, and their queues declared where nobody else makes them.

A letter is published `mandatory`: one that no queue took comes back and counts as not parked, although RabbitMQ
confirms it. Where we declare, limits are arguments of the queues, for AMQP knows no policies; RabbitMQ then refuses to
change them (406), which becomes a condition. Made by wiring.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pika
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from knative_lambda.api.meta import Key
from knative_lambda.events import dead_letters
from knative_lambda.events.confirms import Batch, Ledger
from knative_lambda.events.dead_letters import Letter, QueueState, awaited, refused
from knative_lambda.events.rabbitmq import APP_ID, Options, cause, parameters
from knative_lambda.kit import redact
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.resources import dead_letter, names

QUEUE_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-message-ttl": dead_letter.TTL_MILLISECONDS,
    "x-max-length": dead_letter.MAX_LENGTH,
    "x-overflow": dead_letter.OVERFLOW,
    "x-delivery-limit": dead_letter.DELIVERY_LIMIT,
}
EXCHANGE_ARGUMENTS = {"alternate-exchange": names.DEAD_LETTER_UNROUTED}

_PERSISTENT = 2
_DECLARES_AT_ONCE = 8
_COUNTS_AT_ONCE = 4
_PATIENCE = 3.0  # seconds that who asks for a queue waits for the first attempt to connect
_STEADY = 30.0  # seconds that a connection must have lived for the next reconnect to begin with a short pause
_log = structlog.get_logger(__name__)


class _Lost(Exception):
    """No answer, or no connection; trying again later may help. The text is safe to show."""


class _Refused(Exception):
    """RabbitMQ closed the channel over what was asked. The text is its own."""


class RabbitMQLetters:
    """The ports of events.dead_letters over one connection, kept up by a task."""

    def __init__(
        self,
        options: Options,
        *,
        clock: Clock,
        declares: bool,
        backoff: Backoff = Backoff(base=0.5, cap=30.0),  # noqa: B008 - frozen
    ) -> None:
        """`declares`: make exchanges and queues ourselves."""
        self._options = options
        self._parameters = parameters(options)
        self._clock = clock
        self._declares = declares
        self._backoff = backoff
        self._keeper: asyncio.Task[None] | None = None
        self._link: _Link | None = None
        self._problem = "not connected yet"
        self._tried = asyncio.Event()
        self._known: set[Key | None] = set()
        self._turn = asyncio.Semaphore(_DECLARES_AT_ONCE)

    @property
    def connected(self) -> bool:
        return self._link is not None

    async def start(self) -> None:
        """Begins to connect, in the background, and again for ever."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_connected(), name="dead letters")

    async def close(self) -> None:
        """Waits for outstanding confirms, then disconnects; each within `drain_timeout`."""
        link, self._link = self._link, None
        if link is not None:
            link.ledger.seal()
            await link.ledger.drained(self._options.drain_timeout)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        if link is not None:
            await link.close(self._options.drain_timeout)

    async def park(self, letter: Letter) -> bool:
        """As the port says."""
        link, seconds = self._link, self._options.confirm_timeout
        if link is None or not await link.ledger.room(seconds):
            return False
        batch = Batch()
        if not link.send(letter):
            return False
        link.ledger.sent(batch, 0)
        settled = await batch.settled(seconds)
        was_returned = link.take_back(letter.id)
        return settled and bool(batch.confirmed) and not was_returned

    async def ensure(self, function: Key) -> QueueState:
        """As the port says. A new connection looks at every queue anew, when its function is looked at."""
        if function in self._known:
            return dead_letters.READY
        await self._first_attempt()
        link = self._link
        if link is None:
            return awaited(f"RabbitMQ is away ({self._problem})")
        try:
            async with self._turn:
                await self._declare_shared(link)
                await _declare_queue(link, names.dead_letter_queue(function), _binding(function))
        except _Refused as refusal:
            return refused(f"RabbitMQ refuses the queue for dead letters: {refusal}")
        except _Lost as loss:
            return awaited(f"RabbitMQ does not answer ({loss})")
        self._known.add(function)
        return dead_letters.READY

    async def _first_attempt(self) -> None:
        """Until it has ended, well or not: a process that has only just begun must not call every queue not ready."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._tried.wait()

    async def depths(self, queues: Sequence[str]) -> Mapping[str, int] | None:
        """As the port says: passive declares, a few at once."""
        link = self._link
        if link is None:
            return None
        found: dict[str, int] = {}
        asked, lost = iter(queues), False
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_COUNTS_AT_ONCE, len(queues))):
                    group.create_task(_count(link, asked, found))
        except* _Lost:
            lost = True
        return None if lost else found

    async def _declare_shared(self, link: _Link) -> None:
        """Exchange, alternate exchange and catch-all; None stands for them among what is known."""
        if None in self._known:
            return
        async with link.channel() as channel:
            await channel.ask("exchange_declare", names.DEAD_LETTER_UNROUTED, "fanout", durable=True)
            await channel.ask(
                "exchange_declare", names.DEAD_LETTER_EXCHANGE, "topic", durable=True, arguments=EXCHANGE_ARGUMENTS
            )
        await _declare_queue(link, names.DEAD_LETTER_QUEUE, (names.DEAD_LETTER_UNROUTED, ""))
        self._known.add(None)

    async def _keep_connected(self) -> None:
        attempt = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._connect_once()
            except _Lost as loss:
                self._problem = str(loss)
            except _Refused as refusal:
                self._problem = str(refusal)
            self._tried.set()
            self._link = None
            self._known.clear()
            _log.warning("dead letters cannot be parked", problem=self._problem)
            attempt = 0 if self._clock.monotonic() - began >= _STEADY else attempt + 1
            await self._clock.sleep(self._backoff.delay(attempt))

    async def _connect_once(self) -> None:
        """One connection from its first to its last moment. Raises _Lost or _Refused."""
        link = _Link(self._parameters, self._options)
        try:
            await link.open()
            if self._declares:
                await self._prepare(link)
            self._link = link
            self._tried.set()
            _log.info("dead letters can be parked", exchange=names.DEAD_LETTER_EXCHANGE)
            self._problem = await asyncio.shield(link.closed)
        finally:
            if self._link is link or not link.ready:
                link.abandon()

    async def _prepare(self, link: _Link) -> None:
        """A refusal here is told by `ensure`, and does not keep letters from what is there."""
        try:
            await self._declare_shared(link)
        except _Refused as refusal:
            _log.error("RabbitMQ refuses the exchange or queue for dead letters", problem=str(refusal))


def _binding(function: Key) -> tuple[str, str]:
    return names.DEAD_LETTER_EXCHANGE, names.dead_letter_key(function)


async def _declare_queue(link: _Link, queue: str, binding: tuple[str, str]) -> None:
    exchange, key = binding
    async with link.channel() as channel:
        await channel.ask("queue_declare", queue, durable=True, arguments=QUEUE_ARGUMENTS)
        await channel.ask("queue_bind", queue, exchange, routing_key=key)


async def _count(link: _Link, queues: Iterator[str], found: dict[str, int]) -> None:
    """Takes queues from an iterator that others take from, too, until it is empty. Raises _Lost."""
    is_over = False
    while not is_over:
        async with link.channel() as channel:
            is_over = await _count_over(channel, queues, found)


async def _count_over(channel: _Channel, queues: Iterator[str], found: dict[str, int]) -> bool:
    """Whether all are counted; a queue that is not there costs the channel."""
    for queue in queues:
        try:
            answer = await channel.ask("queue_declare", queue, passive=True)
        except _Refused:
            return False
        found[queue] = answer.method.message_count
    return True


class _Channel:
    """One channel; every question waits for RabbitMQ's answer."""

    def __init__(self, raw: Any, seconds: float) -> None:
        self.raw = raw
        self._seconds = seconds
        self.closed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        raw.add_on_close_callback(self._on_closed)

    async def ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        """The answer's frame. Raises _Refused when RabbitMQ closes the channel instead, _Lost when nothing comes."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            getattr(self.raw, method)(*arguments, callback=_setter(answer), **named)
        except AMQPError as error:
            raise _Lost(_words(error)) from error
        await asyncio.wait({answer, self.closed}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if not self.closed.done():
            raise _Lost(f"no answer within {self._seconds:g} s")
        reason = self.closed.result()
        raise (_Refused if isinstance(reason, ChannelClosedByBroker) else _Lost)(_words(reason)) from reason

    async def __aenter__(self) -> _Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(AMQPError):  # closed already, over a refusal
            self.raw.close()

    def _on_closed(self, _channel: Any, reason: BaseException) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)


class _Link:
    """One connection with one confirming channel for letters. Never used again after it closed."""

    def __init__(self, wanted: pika.URLParameters, options: Options) -> None:
        loop = asyncio.get_running_loop()
        self.ledger = Ledger(options.window)
        self.closed: asyncio.Future[str] = loop.create_future()
        self.ready = False
        self._opened: asyncio.Future[None] = loop.create_future()
        self._options = options
        self._returned: set[str] = set()
        self._letters: Any = None
        self._connection: Any = AsyncioConnection(
            wanted,
            on_open_callback=_setter(self._opened),
            on_open_error_callback=self._on_end,
            on_close_callback=self._on_end,
            custom_ioloop=loop,
        )

    async def open(self) -> None:
        """Returns when letters can be sent. Raises _Lost."""
        waited: set[asyncio.Future[Any]] = {self._opened, self.closed}
        await asyncio.wait(waited, timeout=self._options.connect_timeout, return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done():
            told = self.closed.result() if self.closed.done() else "no answer to the connection"
            raise _Lost(told)
        channel = await self._channel()
        channel.raw.add_on_return_callback(self._on_return)
        channel.raw.add_on_close_callback(self._on_letters_closed)
        await channel.ask("confirm_delivery", self._on_answer)
        self._letters = channel.raw
        self.ready = True

    @contextlib.asynccontextmanager
    async def channel(self) -> Any:
        """A channel for one question: a refusal closes it and nothing else."""
        async with await self._channel() as channel:
            yield channel

    async def _channel(self) -> _Channel:
        made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self._connection.channel(on_open_callback=_setter(made))
            raw = await asyncio.wait_for(made, self._options.connect_timeout)
        except (AMQPError, TimeoutError) as error:
            raise _Lost(_words(error) or "no answer") from error
        return _Channel(raw, self._options.confirm_timeout)

    def send(self, letter: Letter) -> bool:
        """Puts one letter on the wire; False when the channel has just gone."""
        properties = pika.BasicProperties(
            content_type=letter.content_type or None,
            headers=dict(letter.headers),
            delivery_mode=_PERSISTENT,
            message_id=letter.id,
            app_id=APP_ID,
        )
        exchange, key = names.DEAD_LETTER_EXCHANGE, letter.routing_key
        try:
            self._letters.basic_publish(exchange, key, letter.body, properties, mandatory=True)
        except AMQPError:
            return False
        return True

    def take_back(self, letter_id: str) -> bool:
        """Whether the letter found no queue; asked once, after its confirm."""
        was_returned = letter_id in self._returned
        self._returned.discard(letter_id)
        return was_returned

    async def close(self, seconds: float) -> None:
        """Says goodbye, and does not insist on an answer."""
        self.abandon()
        await asyncio.wait({self.closed}, timeout=seconds)

    def abandon(self) -> None:
        """Begins to close, unless that has begun."""
        if self._connection.is_closing or self._connection.is_closed:
            return
        with contextlib.suppress(AMQPError):  # an attempt that is not open yet ends by itself
            self._connection.close()

    def _on_return(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        """RabbitMQ sends it before the confirm of the same letter."""
        self._returned.add(properties.message_id)

    def _on_answer(self, frame: Any) -> None:
        accepted = isinstance(frame.method, pika.spec.Basic.Ack)
        self.ledger.answered(frame.method.delivery_tag, multiple=frame.method.multiple, accepted=accepted)

    def _on_letters_closed(self, _channel: Any, reason: BaseException) -> None:
        """A missing exchange, above all. A connection without this channel is of no use."""
        self._refuse(reason)
        self.abandon()

    def _on_end(self, _connection: Any, reason: BaseException) -> None:
        self._refuse(reason)

    def _refuse(self, reason: BaseException) -> None:
        self.ledger.lose()
        if not self.closed.done():
            self.closed.set_result(_words(cause(reason)))


def _setter(future: asyncio.Future[Any]) -> Callable[[Any], None]:
    """A callback that fulfils, unless nobody waits any more."""

    def fulfil(value: Any) -> None:
        if not future.done():
            future.set_result(value)

    return fulfil


def _words(error: BaseException) -> str:
    return redact.text(str(error) or type(error).__name__)
