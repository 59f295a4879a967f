"""Listens to the controller's exchange, as a consumer of its events would."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import orjson
import pika
import pika.exceptions

EXCHANGE = "knative-lambda-events"


class EventTap:
    """A durable queue bound to everything; survives restarts of RabbitMQ, reads by polling."""

    def __init__(self, amqp_url: str, *, queue: str, pattern: str = "#") -> None:
        self._parameters = pika.URLParameters(amqp_url)
        self._queue = queue
        self._pattern = pattern
        self._connection: pika.BlockingConnection | None = None
        self.events: list[dict[str, Any]] = []

    def open(self) -> EventTap:
        """Declares exchange, queue and binding; call it before the controller starts."""
        self._connection = pika.BlockingConnection(self._parameters)
        channel = self._connection.channel()
        channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
        channel.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "classic"})
        channel.queue_bind(self._queue, EXCHANGE, self._pattern)
        self._channel = channel
        return self

    def close(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._channel.queue_delete(self._queue)
            self._connection.close()

    def read(self) -> list[dict[str, Any]]:
        """Everything that came so far; reconnects after a broker that was away."""
        try:
            self._drain()
        except (pika.exceptions.AMQPError, OSError):
            self._reconnect()
        return self.events

    def of(self, name: str, namespace: str) -> list[dict[str, Any]]:
        """The events of one function, in the order in which they came."""
        return [event for event in self.read() if event.get("subject") == f"{namespace}/{name}"]

    def wait_for(self, matches: Callable[[dict[str, Any]], bool], *, timeout: float = 30) -> dict[str, Any]:
        """The first event that matches."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for event in self.read():
                if matches(event):
                    return event
            time.sleep(0.05)
        raise AssertionError(f"no such event within {timeout} s; seen: {[event['type'] for event in self.events]}")

    def ids_by_type(self, name: str, namespace: str) -> dict[str, set[str]]:
        """Event type -> distinct ids, for one function."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for event in self.of(name, namespace):
            found[event["type"]].add(event["id"])
        return dict(found)

    def _drain(self) -> None:
        while True:
            method, _properties, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None:
                return
            self.events.append(orjson.loads(body))

    def _reconnect(self) -> None:
        try:
            self._connection = pika.BlockingConnection(self._parameters)
            self._channel = self._connection.channel()
        except (pika.exceptions.AMQPError, OSError):
            time.sleep(0.2)
