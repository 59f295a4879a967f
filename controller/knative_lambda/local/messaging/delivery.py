"""One event to one function: attempts, pauses, the function's reply, and the dead letter in the end.

By the rules of the RabbitMQ Broker's dispatcher, but for two things that only lose events there: a dead letter is
parked before the event leaves its queue, and it is parked whether or not the Trigger names a sink. Called by lanes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

import structlog

from knative_lambda.api.meta import Key
from knative_lambda.events import encoding
from knative_lambda.events.dead_letters import DeadLetters
from knative_lambda.events.encoding import InvalidEvent, Message
from knative_lambda.kit import redact
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock
from knative_lambda.local.messaging import retries
from knative_lambda.local.messaging.backlog import Accepted
from knative_lambda.local.messaging.retries import NO_ANSWER, Policy
from knative_lambda.machinery.timing import within
from knative_lambda.web import dead_letters

PARKING = Backoff(base=1.0, cap=60.0)
"""Pauses while a dead letter cannot be parked; its event waits on disk."""
TRACE = ("traceparent", "tracestate")
"""Headers that travel with an event from ingress to function and to its reply."""

_log = structlog.get_logger(__name__)


class Answered(Protocol):
    """What a function answered; local.server.Answer is one."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


Call = Callable[[Key, Mapping[str, str], bytes], Awaitable[Answered]]
"""ProcessServer.call: Service, headers, body. It raises nothing, a Service that is away is a 502, 503 or 504."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a Trigger says."""

    trigger: Key
    broker: Key
    wanted: Mapping[str, str]
    """Attributes that an event must have."""
    subscriber: Key
    """Knative Service."""
    address: str
    """Its URL, for people."""
    policy: Policy
    parallelism: int
    """Events that are under way at a time; one keeps their order."""
    function: Key
    """Whose dead letters they are."""


@dataclass(frozen=True, slots=True)
class Reception:
    """What became of an event at a Broker, in HTTP's terms: 202, or a status with the reason."""

    status: int = 202
    problem: str = ""
    queues: int = 0
    """Triggers that want it."""


Publish = Callable[[Key, Message, Mapping[str, str], int], Awaitable[Reception]]
"""Puts an event into a Broker: which one, the event, its trace headers, the replies that led to it."""


class What(StrEnum):
    """What happened to an event."""

    ACCEPTED = "accepted"
    UNWANTED = "unwanted"
    """No Trigger of the Broker asks for it."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """The function did not take it this time."""
    DEAD = "dead"
    """It is among the dead letters."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened, for whoever shows events to people."""

    what: What
    broker: Key
    type: str
    id: str
    function: Key | None = None
    status: int = 0
    """What the function answered; -1 when it did not."""
    attempt: int = 0
    """From 1."""


Told = Callable[[Notice], None]


class Stopped(Exception):
    """The process is ending: the event stays in its queue, for the next start."""


@dataclass(frozen=True, slots=True)
class _Got:
    status: int
    answer: Answered | None = None


class Courier:
    """Delivers; keeps nothing but what is under way."""

    def __init__(
        self, call: Call, letters: DeadLetters, publish: Publish, *, clock: Clock, hops: int, told: Told
    ) -> None:
        """`hops`: replies to replies that are followed."""
        self._call = call
        self._letters = letters
        self._publish = publish
        self._clock = clock
        self._hops = hops
        self._told = told
        self._stopping = False
        self.calling: set[asyncio.Task[None] | None] = set()
        """Tasks that wait for a function right now."""

    def stop(self) -> None:
        """From now on whoever would wait for another attempt raises Stopped."""
        self._stopping = True

    async def deliver(self, route: Route, event: Accepted) -> None:
        """Until the event is done with, one way or the other. Raises Stopped, nothing else."""
        got = await self._tried(route.policy, partial(self._attempt, route, event))
        if not retries.is_retried(got.status) and (reply := _reply(route, got.answer)) is not None:
            got = await self._tried(route.policy, partial(self._put_back, route, event, reply))
        if retries.is_retried(got.status):
            await self._bury(route, event, got.status)

    async def _tried(self, policy: Policy, once: Callable[[int], Awaitable[_Got]]) -> _Got:
        """What came of the last attempt; each is told its number, from 1."""
        number = 1
        while True:
            got = await once(number)
            if not retries.is_retried(got.status) or number >= policy.attempts:
                return got
            await self._pause(policy.pause(number))
            number += 1

    async def _attempt(self, route: Route, event: Accepted, number: int) -> _Got:
        with self._being_called():
            got = await self._answer(route, event)
        what = What.FAILED if retries.is_retried(got.status) else What.DELIVERED
        self._tell(what, route, event, got.status, number)
        return got

    async def _answer(self, route: Route, event: Accepted) -> _Got:
        calling = self._call(route.subscriber, dict(event.headers), event.body)
        try:
            answer = await within(self._clock, route.policy.timeout, calling)
        except TimeoutError:
            _log.warning("function did not answer in time", function=str(route.function), seconds=route.policy.timeout)
            return _Got(NO_ANSWER)
        except Exception:  # noqa: BLE001 - one fault of the process server must not end the queue of a function
            _log.exception("function could not be called", function=str(route.function))
            return _Got(NO_ANSWER)
        return _Got(answer.status, answer)

    async def _put_back(self, route: Route, event: Accepted, reply: Message, _number: int) -> _Got:
        """The reply, into the Broker that the event came from."""
        about = {"broker": str(route.broker), "function": str(route.function), "event_type": reply.attributes["type"]}
        if event.hops >= self._hops:
            _log.error("reply dropped: replies to replies have gone round too often", hops=event.hops, **about)
            return _Got(202)
        trace = {name: event.headers[name] for name in TRACE if name in event.headers}
        reception = await self._publish(route.broker, reply, trace, event.hops + 1)
        if reception.problem:
            _log.warning("reply not accepted", problem=reception.problem, **about)
        return _Got(reception.status)

    async def _bury(self, route: Route, event: Accepted, status: int) -> None:
        """Parks the event with what Knative would say of the failure. Goes on until it is parked."""
        failure = {"ce-knativeerrordest": route.address, "ce-knativeerrorcode": str(status)}
        headers = {**event.headers, **failure}
        letter = dead_letters.letter_of(route.function, event.body, headers, received=self._clock.now())
        about = {"function": str(route.function), "event_id": event.headers.get("ce-id", ""), "status": status}
        attempt = 0
        while not await self._letters.park(letter):
            _log.error("dead letter cannot be parked, its event waits", **about)
            await self._pause(PARKING.delay(attempt))
            attempt += 1
        _log.warning("event became a dead letter", event_type=event.headers.get("ce-type", ""), **about)
        self._tell(What.DEAD, route, event, status, route.policy.attempts)

    async def _pause(self, seconds: float) -> None:
        if self._stopping:
            raise Stopped
        await self._clock.sleep(seconds)

    @contextlib.contextmanager
    def _being_called(self) -> Iterator[None]:
        task = asyncio.current_task()
        self.calling.add(task)
        try:
            yield
        finally:
            self.calling.discard(task)

    def _tell(self, what: What, route: Route, event: Accepted, status: int, attempt: int) -> None:
        headers = event.headers
        kind, name = headers.get("ce-type", ""), headers.get("ce-id", "")
        tell(self._told, Notice(what, route.broker, kind, name, route.function, status, attempt))


def tell(told: Told, notice: Notice) -> None:
    """Whoever shows events may fail; the events go on."""
    try:
        told(notice)
    except Exception as error:  # noqa: BLE001 - the log keeps it
        _log.error("a listener of the broker failed", error=redact.text(repr(error)))


def _reply(route: Route, answer: Answered | None) -> Message | None:
    """The event that a function answered with; any other answer is none."""
    if answer is None or answer.status // 100 != 2:
        return None
    headers = {name.lower(): value for name, value in answer.headers.items()}
    is_structured = headers.get("content-type", "").lower().startswith("application/cloudevents")
    if not (is_structured or any(name.startswith("ce-") for name in headers)):
        return None
    try:
        return encoding.unfold(answer.body, headers)
    except InvalidEvent as error:
        _log.warning("reply ignored, it is no CloudEvent", function=str(route.function), problem=str(error))
        return None
