"""CloudEvents to RabbitMQ: a durable topic exchange, persistent messages, publisher confirms.

Our events go out through `knative-lambda-events`; the scheduler's exchange `cloud-events` brings commands in and is
never published to. A message's routing key is the event's type. Nobody listening is no failure (`mandatory` is off):
a confirm means that the exchange took the event and every queue bound to it has stored it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils.connection_workflow import AMQPConnectionWorkflowFailed, AMQPConnectorPhaseErrorBase
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from knative_lambda.api.events import Event
from knative_lambda.events import encoding
from knative_lambda.events.confirms import Batch, Ledger
from knative_lambda.kit import redact
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock

EXCHANGE = "knative-lambda-events"
APP_ID = "knative-lambda-operator"

_PERSISTENT = 2
_SHORT_STRING = 255  # bytes of an AMQP property such as message_id
_TURN = 64  # events sent before the event loop may turn to others
_STEADY = 30.0  # seconds that a connection must have lived for the next reconnect to begin with a short pause
_REFUSALS = (
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Where and how to publish. Times in seconds."""

    url: str = field(repr=False)
    """amqp:// or amqps:// with user, password and virtual host (`%2F` is the default one); never logged."""
    exchange: str = EXCHANGE
    confirm_timeout: float = 5.0
    """How long an event may wait for its confirm, or for a place in the window."""
    window: int = 1000
    """Events on the way and not confirmed, over all publishes."""
    connect_timeout: float = 10.0
    """From the first packet to the declared exchange."""
    heartbeat: int = 15
    """A peer that says nothing for twice this long is gone."""
    blocked_timeout: float = 3.0
    """How long RabbitMQ may block us (memory or disk alarm) before we count as disconnected."""
    refused_pause: float = 30.0
    """Shortest pause after a refusal that only a person can heal: credentials, permissions, another exchange."""
    drain_timeout: float = 5.0
    """What `close` waits for outstanding confirms, and again for the goodbye."""
    ca_file: Path | None = None
    """Certificates to trust for amqps://; the system's when not given."""


class _Away(Exception):
    """No connection. The text is safe to show; `refused` says that RabbitMQ answered, and said no."""

    def __init__(self, text: str, *, refused: bool) -> None:
        super().__init__(text)
        self.text = text
        self.refused = refused


class RabbitMQBus:
    """The port's RabbitMQ adapter: one connection at a time, kept up by a task. Made by wiring.

    Raises ValueError for an address that is none, OSError for an unreadable ca_file.
    """

    def __init__(self, options: Options, *, clock: Clock, backoff: Backoff = Backoff(base=0.5, cap=30.0)) -> None:  # noqa: B008 - frozen
        self._options = options
        self._parameters = parameters(options)
        self._clock = clock
        self._backoff = backoff
        self._keeper: asyncio.Task[None] | None = None
        self._link: _Link | None = None
        self._problem = "not started"

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.usable

    @property
    def problem(self) -> str:
        if self._link is None:
            return self._problem
        return self._link.problem

    async def start(self) -> None:
        """Begins to connect. pika's own log repeats every failed attempt with a traceback; ours says it in a line."""
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        if self._keeper is None:
            self._problem = "connecting"
            self._keeper = asyncio.create_task(self._keep_connected(), name="rabbitmq")
            self._keeper.add_done_callback(self._on_keeper_ended)

    async def close(self) -> None:
        """Waits for outstanding confirms, then disconnects; each within `drain_timeout`. The bus stays closed."""
        link, self._link = self._link, None
        self._problem = "closed"
        if link is not None:
            link.ledger.seal()
            if not await link.ledger.drained(self._options.drain_timeout):
                _log.warning("closing with unconfirmed events", events=link.ledger.outstanding)
        await self._end_keeper()
        if link is not None:
            await link.close(self._options.drain_timeout)

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:
        """As the port says. Raises encoding.InvalidEvent for an event that is no CloudEvent: retrying cannot help."""
        link = self._link
        if link is None or not link.usable:
            return tuple(events)
        batch = Batch()
        await self._send(events, batch=batch, link=link)
        if not await batch.settled(self._options.confirm_timeout):
            link.ledger.stalled = True
            _log.warning("RabbitMQ did not confirm in time", seconds=self._options.confirm_timeout)
        return tuple(event for index, event in enumerate(events) if index not in batch.confirmed)

    async def _send(self, events: Sequence[Event], *, batch: Batch, link: _Link) -> None:
        """In order, until one finds no place in the window or the connection is gone."""
        for index, event in enumerate(events):
            if index % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            body = encoding.encode(event)
            if not await link.ledger.room(self._options.confirm_timeout) or not link.send(event, body):
                return
            link.ledger.sent(batch, index)

    async def _keep_connected(self) -> None:
        """Connects, waits until that connection ends, and begins again; for ever."""
        attempt = 0
        while True:
            try:
                lived = await self._connect_once()
            except _Away as away:
                self._problem = away.text
                _log.log(_level(away), "RabbitMQ is not connected", problem=away.text, attempt=attempt)
                await self._clock.sleep(self._pause(attempt, refused=away.refused))
                attempt += 1
            else:
                attempt = 0 if lived >= _STEADY else attempt + 1
                await self._clock.sleep(self._pause(attempt, refused=False))

    async def _connect_once(self) -> float:
        """One connection from its first to its last moment; seconds that it lived. Raises _Away."""
        link = await _open(self._parameters, self._options)
        self._link = link
        since = self._clock.monotonic()
        _log.info("RabbitMQ is connected", exchange=self._options.exchange)
        self._problem = await asyncio.shield(link.closed)  # `close` still waits for it when this task is cancelled
        self._link = None
        _log.warning("RabbitMQ connection ended", problem=self._problem)
        return self._clock.monotonic() - since

    def _pause(self, attempt: int, *, refused: bool) -> float:
        pause = self._backoff.delay(attempt)
        return max(pause, self._options.refused_pause) if refused else pause

    def _on_keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        """It runs for ever; should a fault end it, readiness and the log must say so."""
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._problem = f"the connection task ended: {type(error).__name__}"
            _log.critical("the RabbitMQ task ended", exc_info=error)

    async def _end_keeper(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper


class _Link:
    """One connection with one confirming channel, from the attempt to the end. Never used again after it closed."""

    def __init__(self, parameters: pika.URLParameters, options: Options) -> None:
        loop = asyncio.get_running_loop()
        self.ledger = Ledger(options.window)
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self._options = options
        self._channel: Any = None
        self._refusal: BaseException | None = None
        self._blocked: asyncio.TimerHandle | None = None
        self._is_blocked = False
        self._connection: Any = AsyncioConnection(
            parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_end,
            on_close_callback=self._on_end,
            custom_ioloop=loop,
        )

    @property
    def usable(self) -> bool:
        return not (self.closed.done() or self._refusal or self._is_blocked or self.ledger.stalled)

    @property
    def problem(self) -> str:
        if self.closed.done():
            return self.closed.result()
        if self._refusal is not None:
            return _told(self._refusal, self._options.exchange)
        if self._is_blocked:
            return "RabbitMQ blocks publishers: a memory or disk alarm is on"
        return "RabbitMQ does not confirm what it was sent" if self.ledger.stalled else ""

    def send(self, event: Event, body: bytes) -> bool:
        """Puts one message on the wire; False when the channel has just gone."""
        try:
            self._channel.basic_publish(
                exchange=self._options.exchange,
                routing_key=encoding.routing_key(event),
                body=body,
                properties=_properties(event),
            )
        except AMQPError:
            return False
        return True

    async def close(self, seconds: float) -> None:
        """Says goodbye, and does not insist on an answer."""
        with contextlib.suppress(AMQPError):  # it is closing or closed already
            self._connection.close()
        await asyncio.wait([self.closed], timeout=seconds)

    def _on_open(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.confirm_delivery(self._on_answer, callback=self._on_confirming)

    def _on_confirming(self, _frame: Any) -> None:
        self._channel.exchange_declare(self._options.exchange, "topic", durable=True, callback=self._on_declared)

    def _on_declared(self, _frame: Any) -> None:
        if not self.opened.done():
            self.opened.set_result(None)

    def _on_answer(self, frame: Any) -> None:
        accepted = isinstance(frame.method, pika.spec.Basic.Ack)
        if not accepted:
            _log.warning("RabbitMQ refused an event", multiple=frame.method.multiple)
        self.ledger.answered(frame.method.delivery_tag, multiple=frame.method.multiple, accepted=accepted)

    def _on_channel_closed(self, _channel: Any, reason: BaseException) -> None:
        """A connection without its channel is of no use."""
        self._refusal = self._refusal or reason
        self.ledger.lose()
        if self._connection.is_open:
            self._connection.close()

    def _on_end(self, _connection: Any, reason: BaseException) -> None:
        """The end, of an attempt or of a connection."""
        self._on_unblocked()
        self.ledger.lose()
        under = cause(self._refusal or reason)
        text = _told(under, self._options.exchange)
        if not self.closed.done():
            self.closed.set_result(text)
        if not self.opened.done():
            self.opened.set_exception(_Away(text, refused=isinstance(under, _REFUSALS)))

    def _on_blocked(self, *_: Any) -> None:
        if self._blocked is None:
            loop = asyncio.get_running_loop()
            self._blocked = loop.call_later(self._options.blocked_timeout, self._now_blocked)

    def _now_blocked(self) -> None:
        self._is_blocked = True
        _log.warning("RabbitMQ blocks publishers", problem=self.problem)

    def _on_unblocked(self, *_: Any) -> None:
        self._is_blocked = False
        if self._blocked is not None:
            self._blocked.cancel()
            self._blocked = None


async def _open(parameters: pika.URLParameters, options: Options) -> _Link:
    """A link that is ready to send. Raises _Away, and leaves nothing open then."""
    link = _Link(parameters, options)
    try:
        async with asyncio.timeout(options.connect_timeout):
            await asyncio.shield(link.opened)
    except TimeoutError as error:
        await _abandon(link, options)
        raise _Away(f"no answer within {options.connect_timeout:g} s", refused=False) from error
    except asyncio.CancelledError:
        await _abandon(link, options)
        raise
    return link


async def _abandon(link: _Link, options: Options) -> None:
    await link.close(options.drain_timeout)
    if link.opened.done() and not link.opened.cancelled():
        link.opened.exception()  # looked at, or asyncio reports it as forgotten


def parameters(options: Options) -> pika.URLParameters:
    """What pika needs; a URL's own query options are taken except those that `Options` names."""
    refusal = f"not an AMQP address: {redact.url(options.url)}; write amqp://user:password@host:5672/vhost"
    if not options.url.startswith(("amqp://", "amqps://")):
        raise ValueError(refusal)
    try:
        parameters = pika.URLParameters(options.url)
    except (ValueError, TypeError):
        raise ValueError(refusal) from None  # pika's own text may quote what it could not read
    if options.ca_file is not None and parameters.ssl_options is not None:
        context = ssl.create_default_context(cafile=str(options.ca_file))
        parameters.ssl_options = pika.SSLOptions(context, parameters.host)
    parameters.heartbeat = options.heartbeat
    parameters.socket_timeout = options.connect_timeout
    parameters.stack_timeout = options.connect_timeout
    parameters.connection_attempts = 1
    parameters.client_properties = {"connection_name": APP_ID, "product": APP_ID}
    return parameters


def _properties(event: Event) -> pika.BasicProperties:
    return pika.BasicProperties(
        content_type=encoding.CONTENT_TYPE,
        delivery_mode=_PERSISTENT,
        message_id=event.id if len(event.id.encode()) <= _SHORT_STRING else None,
        timestamp=int(event.time.timestamp()),
        type=event.type,
        app_id=APP_ID,
    )


def cause(error: BaseException) -> BaseException:
    """What lies under pika's wrappers of a failed attempt."""
    return list(_under(error))[-1]


def _under(error: BaseException) -> Iterator[BaseException]:
    yield error
    if isinstance(error, AMQPConnectorPhaseErrorBase):
        yield from _under(error.exception)
    elif isinstance(error, AMQPConnectionWorkflowFailed) and error.exceptions:
        yield from _under(error.exceptions[-1])
    elif error.args and isinstance(error.args[0], BaseException):
        yield from _under(error.args[0])


def _told(error: BaseException, exchange: str) -> str:
    """One safe line for people."""
    said = redact.text(str(error) or type(error).__name__)
    if isinstance(error, ChannelClosedByBroker) and error.reply_code == 406:
        return f"exchange {exchange} exists with another type or durability; delete it or name another one ({said})"
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return f"RabbitMQ refuses the credentials ({said})"
    if isinstance(error, _REFUSALS):
        return f"RabbitMQ refuses ({said})"
    return f"RabbitMQ is away ({said})"


def _level(away: _Away) -> int:
    return logging.ERROR if away.refused else logging.WARNING
