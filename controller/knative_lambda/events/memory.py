"""The bus inside this process: the listeners of local mode, and the twin that tests pass for RabbitMQ."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import structlog

from knative_lambda.api.events import Event
from knative_lambda.events import encoding, topic

Callback = Callable[[Event], None]
KEPT = 100_000
"""Events that are remembered; the oldest go first."""

_log = structlog.get_logger(__name__)


class MemoryBus:
    """Delivers to subscribers at once and remembers what came, in order. Connected from the start."""

    def __init__(self, *, keep: int = KEPT) -> None:
        self._kept: deque[Event] = deque(maxlen=keep)
        self._subscribers: dict[int, tuple[str, Callback]] = {}
        self._subscriptions = 0
        self._connected = True
        self._confirms_to_lose = 0

    @property
    def published(self) -> list[Event]:
        """Everything that arrived, repetitions included, oldest first."""
        return list(self._kept)

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def problem(self) -> str:
        return "" if self._connected else "the memory bus is disconnected"

    async def publish(self, events: Sequence[Event]) -> Sequence[Event]:
        """As the port says; raises encoding.InvalidEvent for what RabbitMQ's adapter would refuse, too."""
        if not self._connected:
            return tuple(events)
        return tuple(event for event in events if not self._accept(event))

    async def start(self) -> None:
        """Connected already, unless `disconnect` was called before: a broker may be away at start."""

    async def close(self) -> None:
        self._connected = False

    def connect(self) -> None:
        """The broker is back."""
        self._connected = True

    def disconnect(self) -> None:
        """The broker is away: every publish returns all of its events."""
        self._connected = False

    def lose_confirms(self, count: int) -> None:
        """The next `count` events arrive, and are returned as unconfirmed all the same."""
        self._confirms_to_lose = count

    def subscribe(self, callback: Callback, pattern: str = "#") -> Callable[[], None]:
        """Calls back, in the publisher's task, with every event whose routing key matches; returns the way out."""
        self._subscriptions += 1
        number = self._subscriptions
        self._subscribers[number] = (pattern, callback)
        return lambda: self._subscribers.pop(number, None) and None

    def _accept(self, event: Event) -> bool:
        encoding.encode(event)
        self._kept.append(event)
        self._deliver(event)
        if self._confirms_to_lose > 0:
            self._confirms_to_lose -= 1
            return False
        return True

    def _deliver(self, event: Event) -> None:
        key = encoding.routing_key(event)
        for pattern, callback in tuple(self._subscribers.values()):
            if topic.matches(pattern, key):
                _call(callback, event)


def _call(callback: Callback, event: Event) -> None:
    """One listener's fault is neither the publisher's nor the other listeners'."""
    try:
        callback(event)
    except Exception:  # noqa: BLE001 - listeners are strangers, and the log keeps what they raised
        _log.exception("a subscriber failed", event_id=event.id, event_type=event.type)
