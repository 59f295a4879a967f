"""Parked letters in RabbitMQ, for a command line: one blocking connection, one question at a time. Made by cli.dlq."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pika
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from knative_lambda.events.mailbox import MailboxError, Parked
from knative_lambda.events.rabbitmq import Options, cause, parameters
from knative_lambda.kit import redact

NOT_FOUND = 404
HEARTBEAT_SECONDS = 120
"""Longer than a delivery may take: nobody answers RabbitMQ meanwhile."""
_REFUSALS = (AuthenticationError, ConnectionClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError)


class RabbitMQMailbox:
    """The port over AMQP."""

    def __init__(self, url: str) -> None:
        """Connects. Raises MailboxError, ValueError for an address that is none."""
        with _told():
            self._connection = pika.BlockingConnection(parameters(Options(url=url, heartbeat=HEARTBEAT_SECONDS)))

    def depth(self, queue: str) -> int | None:
        """As the port says."""
        try:
            with _told(), self._channel() as channel:
                return int(channel.queue_declare(queue, passive=True).method.message_count)
        except _Missing:
            return None

    def peek(self, queue: str, limit: int) -> list[Parked]:
        """As the port says: whatever was handed out goes back when the channel closes."""
        found: list[Parked] = []
        with _told(), self._channel() as channel:
            while len(found) < limit and (got := _next(channel, queue)) is not None:
                found.append(got[1])
        return found

    def drain(self, queue: str, limit: int, deliver: Callable[[Parked], bool]) -> tuple[int, int]:
        """As the port says: what was not accepted is held until the end, so that it is not handed out twice."""
        delivered = left = 0
        with _told(), self._channel() as channel:
            while delivered + left < limit and (got := _next(channel, queue)) is not None:
                tag, letter = got
                if deliver(letter):
                    channel.basic_ack(tag)
                    delivered += 1
                else:
                    left += 1
        return delivered, left

    def purge(self, queue: str) -> int:
        """As the port says."""
        with _told(), self._channel() as channel:
            return int(channel.queue_purge(queue).method.message_count)

    def close(self) -> None:
        """Ends the connection; one that is gone is as good."""
        with contextlib.suppress(AMQPError):
            self._connection.close()

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Any]:
        """Everything that was taken and not acknowledged on it goes back when it closes."""
        channel = self._connection.channel()
        try:
            yield channel
        finally:
            with contextlib.suppress(AMQPError):  # closed already, over a refusal
                channel.close()


class _Missing(MailboxError):
    """There is no such queue."""


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ChannelClosedByBroker as error:
        missing = error.reply_code == NOT_FOUND
        raise (_Missing if missing else MailboxError)(f"RabbitMQ refuses: {_words(error)}") from error
    except AMQPError as error:
        found = cause(error)
        said = "refuses" if isinstance(found, _REFUSALS) else "is away"
        raise MailboxError(f"RabbitMQ {said} ({_words(found)})") from error


def _words(error: BaseException) -> str:
    return redact.text(str(error) or type(error).__name__)


def _next(channel: Any, queue: str) -> tuple[int, Parked] | None:
    method, properties, body = channel.basic_get(queue)
    if method is None:
        return None
    headers = {str(name): str(value) for name, value in (properties.headers or {}).items() if not name.startswith("x-")}
    return method.delivery_tag, Parked(body, properties.content_type or "", headers)
