"""One suite for every adapter of events.base.Bus, and what only a real RabbitMQ can show.

A `Place` is an adapter with its listener: it makes buses, takes the broker away and brings it back, and tells what
arrived. MemoryPlace stands for MemoryBus, RabbitMQPlace for a real server that is killed and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pika
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from knative_lambda.api.events import SOURCE, Event
from knative_lambda.events import encoding, topic
from knative_lambda.events.base import Bus
from knative_lambda.events.memory import MemoryBus
from knative_lambda.events.rabbitmq import Options, RabbitMQBus
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import SystemClock
from tests.testbed import fixtures, processes
from tests.testbed.errors import Unavailable
from tests.testbed.rabbitmq import RabbitMQBed

pytestmark = pytest.mark.contract

BACKOFF = Backoff(base=0.05, cap=0.5)
CONFIRM = 1.0
QUEUE = "listener"
DEBIAN_CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"  # the one in /usr/sbin changes the user
PATTERNS = (
    "#",
    "",
    "*",
    "lambda.#",
    "lambda.*",
    "#.started",
    "*.build.*",
    "lambda.build.started",
    "#.build.#",
    "*.#.*.*",
)
KEYS = ("lambda", "lambda.build", "lambda.build.started", "lambda.service.created", "build.x", "a.build.c.d", "started")


def event(number: int, kind: str = "lambda.build.started") -> Event:
    moment = dt.datetime(2026, 1, 1, 12, 0, tzinfo=dt.UTC) + dt.timedelta(milliseconds=number)
    return Event(
        id=f"id-{number:06}",
        type=kind,
        source=SOURCE,
        time=moment,
        data={"number": number},
        subject="tenant/hello",
        extensions={"lambdacategory": "build"},
    )


def events(count: int, start: int = 0) -> list[Event]:
    return [event(number) for number in range(start, start + count)]


async def until(ready: Callable[[], bool], *, seconds: float = 30) -> float:
    """Polls; returns how long it took."""
    began = time.monotonic()
    while not ready():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


class Place(Protocol):
    """What the suite needs of an adapter."""

    def bus(self) -> Bus: ...
    async def away(self) -> None: ...
    async def back(self) -> None: ...
    async def arrived(self) -> list[Event]: ...


class MemoryPlace:
    """MemoryBus; every bus of the place is the same one, as two publishers share a process in local mode."""

    def __init__(self) -> None:
        self._bus = MemoryBus()

    def bus(self) -> Bus:
        return self._bus

    async def away(self) -> None:
        self._bus.disconnect()

    async def back(self) -> None:
        self._bus.connect()

    async def arrived(self) -> list[Event]:
        return self._bus.published


class RabbitMQPlace:
    """A real server; its listener is a durable queue that is read when asked."""

    def __init__(self, bed: RabbitMQBed, exchange: str) -> None:
        self.bed = bed
        self.exchange = exchange
        self.queue = f"{QUEUE}-{exchange}"
        self.url = bed.amqp_url

    def options(self, **changes: Any) -> Options:
        defaults: dict[str, Any] = {
            "url": self.url, "exchange": self.exchange, "confirm_timeout": CONFIRM, "drain_timeout": 2.0,
            "connect_timeout": 5.0, "refused_pause": 0.2, "blocked_timeout": 0.3,
        }  # fmt: skip
        return Options(**(defaults | changes))

    def bus(self, **changes: Any) -> RabbitMQBus:
        return RabbitMQBus(self.options(**changes), clock=SystemClock(), backoff=BACKOFF)

    async def away(self) -> None:
        await asyncio.to_thread(self.bed.kill)

    async def back(self) -> None:
        await asyncio.to_thread(self.bed.start_again)

    def signal(self, number: signal.Signals) -> None:
        """To every process of the server."""
        for process in processes.processes_of(self.bed.log.parent):
            os.kill(process.pid, number)

    def control(self, *arguments: str) -> None:
        """rabbitmqctl, in the environment of the server, which names its node and its epmd."""
        server = next(one for one in processes.processes_of(self.bed.log.parent) if "beam" in _program(one.pid))
        environ = Path(f"/proc/{server.pid}/environ").read_bytes().decode().split("\0")
        variables = dict(variable.split("=", 1) for variable in environ if "=" in variable)
        program = DEBIAN_CONTROL if Path(DEBIAN_CONTROL).exists() else "rabbitmqctl"
        subprocess.run([program, "-q", *arguments], env=variables, check=True, capture_output=True, timeout=60)

    async def arrived(self) -> list[Event]:
        return [decoded(body) for _, _, body in await self.messages()]

    async def messages(self) -> list[tuple[Any, Any, bytes]]:
        return await asyncio.to_thread(self._read)

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            yield connection.channel()
        finally:
            connection.close()

    def listen(self, arguments: dict[str, Any] | None = None) -> None:
        with self.channel() as channel:
            channel.exchange_declare(self.exchange, "topic", durable=True)
            channel.queue_declare(self.queue, durable=True, arguments=arguments)
            channel.queue_bind(self.queue, self.exchange, "lambda.#")

    def forget(self) -> None:
        with self.channel() as channel:
            channel.queue_delete(self.queue)
            channel.exchange_delete(self.exchange)

    def _read(self) -> list[tuple[Any, Any, bytes]]:
        with self.channel() as channel:
            found = []
            while (message := channel.basic_get(self.queue, auto_ack=True))[0] is not None:
                found.append(message)
            return found


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def decoded(body: bytes) -> Event:
    return encoding.decode(body, {"content-type": encoding.CONTENT_TYPE}, received=dt.datetime.now(dt.UTC))


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMQBed]:
    """A server of this module's own, to be killed and hung."""
    try:
        bed = RabbitMQBed.start()
    except Unavailable as gap:
        fixtures.give_up(gap.reason)
    with bed:
        yield bed


@pytest.fixture
def rabbitmq(broker: RabbitMQBed, request: pytest.FixtureRequest) -> Iterator[RabbitMQPlace]:
    """An exchange of its own with one listener."""
    name = request.node.name.replace("[", "-").strip("]")[:80]
    place = RabbitMQPlace(broker, name)
    place.listen()
    yield place
    place.forget()


@pytest.fixture(params=["memory", "rabbitmq"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "memory":
        return MemoryPlace()
    found: RabbitMQPlace = request.getfixturevalue("rabbitmq")
    return found


@contextlib.asynccontextmanager
async def running(bus: Bus, *, connected: bool = True) -> AsyncIterator[Bus]:
    """A started bus that is closed in any case."""
    await bus.start()
    try:
        if connected:
            await until(lambda: bus.connected)
        yield bus
    finally:
        await bus.close()


# --- every adapter ---------------------------------------------------------------------------------------------------


async def test_events_arrive_whole_and_in_order(place: Place) -> None:
    sent = events(2500)
    async with running(place.bus()) as bus:
        assert list(await bus.publish(sent)) == []
    assert await place.arrived() == sent


async def test_nothing_to_publish_is_success(place: Place) -> None:
    async with running(place.bus()) as bus:
        assert list(await bus.publish([])) == []


async def test_problem_is_empty_exactly_while_connected(place: Place) -> None:
    async with running(place.bus()) as bus:
        assert (bus.connected, bus.problem) == (True, "")
    assert (bus.connected, bool(bus.problem)) == (False, True)


async def test_closed_bus_returns_everything(place: Place) -> None:
    async with running(place.bus()) as bus:
        pass
    assert list(await bus.publish(events(2))) == events(2)
    assert await place.arrived() == []


async def test_broker_away_at_start_takes_events_when_it_appears(place: Place) -> None:
    await place.away()
    async with running(place.bus(), connected=False) as bus:
        assert list(await bus.publish(events(3))) == events(3)
        assert not bus.connected
        await place.back()
        await until(lambda: bus.connected)
        assert list(await bus.publish(events(3))) == []
    assert await place.arrived() == events(3)


async def test_broker_away_for_a_while_costs_the_publisher_no_time_and_no_event(place: Place) -> None:
    async with running(place.bus()) as bus:
        assert list(await bus.publish(events(3))) == []
        await place.away()
        await until(lambda: not bus.connected)
        began = time.monotonic()
        kept = [await bus.publish([each]) for each in events(20, start=3)]
        assert time.monotonic() - began < 0.5
        await place.back()
        await until(lambda: bus.connected)
        assert list(await bus.publish([each for some in kept for each in some])) == []
    assert await place.arrived() == events(23)


async def test_two_publishers_keep_their_own_order(place: Place) -> None:
    first, second = place.bus(), place.bus()
    async with running(first), running(second):
        left = await asyncio.gather(first.publish(events(1500)), second.publish(events(1500, start=10_000)))
    assert [list(some) for some in left] == [[], []]
    arrived = await place.arrived()
    assert [one for one in arrived if one.data["number"] < 10_000] == events(1500)
    assert [one for one in arrived if one.data["number"] >= 10_000] == events(1500, start=10_000)


async def test_publishes_at_once_over_one_bus_lose_nothing(place: Place) -> None:
    async with running(place.bus()) as bus:
        left = await asyncio.gather(*(bus.publish(events(30, start=100 * number)) for number in range(50)))
    assert not any(left)
    assert len(await place.arrived()) == 1500


async def test_close_waits_for_confirms_and_accounts_for_every_event(place: Place) -> None:
    sent = events(3000)
    async with running(place.bus()) as bus:
        publishing = asyncio.create_task(_as_list(bus.publish(sent)))
        await asyncio.sleep(0.02)
    left = await publishing
    confirmed = [one for one in sent if one not in left]
    assert confirmed
    arrived = await place.arrived()
    assert arrived[: len(confirmed)] == confirmed
    assert left == sent[len(confirmed) :]


async def test_an_event_that_is_none_is_refused_before_it_is_sent(place: Place) -> None:
    broken = Event(id="", type="lambda.x", source=SOURCE, time=dt.datetime.now(dt.UTC), data={})
    async with running(place.bus()) as bus:
        with pytest.raises(encoding.InvalidEvent):
            await bus.publish([broken])
    assert await place.arrived() == []


async def _as_list(publish: Awaitable[Sequence[Event]]) -> list[Event]:
    return list(await publish)


# --- a real RabbitMQ -------------------------------------------------------------------------------------------------


async def test_message_is_a_persistent_structured_cloudevent(rabbitmq: RabbitMQPlace) -> None:
    async with running(rabbitmq.bus()) as bus:
        await bus.publish([event(7)])
    [(method, properties, body)] = await rabbitmq.messages()
    assert (method.exchange, method.routing_key) == (rabbitmq.exchange, "lambda.build.started")
    assert properties.content_type == "application/cloudevents+json; charset=UTF-8"
    assert (properties.delivery_mode, properties.message_id, properties.type) == (
        2,
        "id-000007",
        "lambda.build.started",
    )
    assert properties.app_id == "knative-lambda-operator"
    assert decoded(body) == event(7)


async def test_an_event_that_nobody_listens_to_is_confirmed(rabbitmq: RabbitMQPlace) -> None:
    async with running(rabbitmq.bus()) as bus:
        assert list(await bus.publish([event(1, "nobody.binds.this")])) == []


@pytest.mark.parametrize("delay", [0.02, 0.2])
async def test_killed_broker_loses_no_event_that_it_confirmed(rabbitmq: RabbitMQPlace, delay: float) -> None:
    """SIGKILL in the middle of a stream: what is not returned is there after the restart."""
    async with running(rabbitmq.bus()) as bus:
        streaming = asyncio.create_task(_stream(bus))
        await asyncio.sleep(delay)
        await rabbitmq.away()
        sent, left = await asyncio.wait_for(streaming, 10)
        await rabbitmq.back()
        await until(lambda: bus.connected)
        stored = {one.id for one in await rabbitmq.arrived()}
        assert {one.id for one in sent} - {one.id for one in left} <= stored
        assert list(await bus.publish(left)) == []
    again = {one.id for one in await rabbitmq.arrived()}
    assert stored | again == {one.id for one in sent}


async def _stream(bus: Bus) -> tuple[list[Event], list[Event]]:
    """Publishes on and on, over the window's size at once, until something comes back: (all sent, what came back)."""
    sent: list[Event] = []
    while True:
        some = events(1500, start=len(sent))
        sent += some
        if left := await bus.publish(some):
            return sent, list(left)


async def test_hung_broker_costs_one_confirm_timeout_and_then_nothing(rabbitmq: RabbitMQPlace) -> None:
    async with running(rabbitmq.bus()) as bus:
        rabbitmq.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert list(await bus.publish(events(5))) == events(5)
            assert CONFIRM * 0.9 < time.monotonic() - began < CONFIRM * 2
            assert not bus.connected
            assert "confirm" in bus.problem
            began = time.monotonic()
            assert list(await bus.publish(events(5))) == events(5)
            assert time.monotonic() - began < 0.1
        finally:
            rabbitmq.signal(signal.SIGCONT)
        await until(lambda: bus.connected)
        assert list(await bus.publish(events(5))) == []


async def test_closing_on_a_hung_broker_is_bounded(rabbitmq: RabbitMQPlace) -> None:
    bus = rabbitmq.bus(drain_timeout=0.3)
    async with running(bus):
        pass
    async with running(rabbitmq.bus(drain_timeout=0.3)) as bus:
        rabbitmq.signal(signal.SIGSTOP)
        try:
            publishing = asyncio.create_task(_as_list(bus.publish(events(5))))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            await bus.close()
            assert time.monotonic() - began < 1.5
        finally:
            rabbitmq.signal(signal.SIGCONT)
        assert await publishing == events(5)
        await asyncio.sleep(0.5)  # the broker's goodbye comes after all


async def test_blocked_broker_counts_as_disconnected_until_it_unblocks(rabbitmq: RabbitMQPlace) -> None:
    async with running(rabbitmq.bus()) as bus:
        await asyncio.to_thread(rabbitmq.control, "set_vm_memory_high_watermark", "absolute", "1")
        try:
            await bus.publish([event(1)])
            await until(lambda: "alarm" in bus.problem)
            assert not bus.connected
            began = time.monotonic()
            assert list(await bus.publish(events(2))) == events(2)
            assert time.monotonic() - began < 0.1
        finally:
            await asyncio.to_thread(rabbitmq.control, "set_vm_memory_high_watermark", "0.4")
        await until(lambda: bus.connected)
        assert list(await bus.publish(events(2))) == []


async def test_event_that_a_full_queue_rejects_is_returned(rabbitmq: RabbitMQPlace) -> None:
    rabbitmq.forget()
    rabbitmq.listen({"x-max-length": 3, "x-overflow": "reject-publish"})
    async with running(rabbitmq.bus()) as bus:
        left = list(await bus.publish(events(10)))
    stored = await rabbitmq.arrived()
    assert left
    assert {one.id for one in events(10)} == {one.id for one in [*left, *stored]}


async def test_deleted_exchange_is_declared_again(rabbitmq: RabbitMQPlace) -> None:
    async with running(rabbitmq.bus()) as bus:
        rabbitmq.forget()
        assert list(await bus.publish([event(1)])) == [event(1)]
        await until(lambda: bus.connected)
        rabbitmq.listen()
        assert list(await bus.publish([event(1)])) == []
    assert await rabbitmq.arrived() == [event(1)]


async def test_exchange_of_another_type_is_a_problem_until_it_is_gone(rabbitmq: RabbitMQPlace) -> None:
    name = f"{rabbitmq.exchange}-direct"
    with rabbitmq.channel() as channel:
        channel.exchange_declare(name, "direct", durable=True)
    async with running(rabbitmq.bus(exchange=name), connected=False) as bus:
        await until(lambda: "another type" in bus.problem)
        assert name in bus.problem
        assert list(await bus.publish([event(1)])) == [event(1)]
        with rabbitmq.channel() as channel:
            channel.exchange_delete(name)
        await until(lambda: bus.connected)
    with rabbitmq.channel() as channel:
        channel.exchange_delete(name)


async def test_wrong_password_is_told_and_never_shown(
    rabbitmq: RabbitMQPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    url = rabbitmq.url.replace(rabbitmq.bed.password, "hunter2secret")
    options = rabbitmq.options(url=url)
    async with running(rabbitmq.bus(url=url), connected=False) as bus:
        await until(lambda: "credentials" in bus.problem)
        shown = capsys.readouterr()
        assert "hunter2secret" not in bus.problem + repr(options) + shown.out + shown.err
        assert "credentials" in shown.out + shown.err


async def test_missing_virtual_host_is_told(rabbitmq: RabbitMQPlace) -> None:
    async with running(rabbitmq.bus(url=rabbitmq.url.replace("%2F", "absent")), connected=False) as bus:
        await until(lambda: "refuses" in bus.problem)
        assert "absent" in bus.problem


async def test_a_peer_that_never_answers_is_given_up_and_tried_again(rabbitmq: RabbitMQPlace) -> None:
    greeted = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(
        rabbitmq.bus(url=f"amqp://u:p@127.0.0.1:{port}/%2F", connect_timeout=0.3), connected=False
    ) as bus:
        await until(lambda: greeted >= 2)
        assert not bus.connected
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_needs_a_certificate_that_is_trusted(rabbitmq: RabbitMQPlace, tmp_path: Path, trusted: bool) -> None:
    certificate, key = self_signed(tmp_path)
    async with tls_in_front_of(rabbitmq.url, certificate, key) as port:
        url = f"amqps://{rabbitmq.bed.user}:{rabbitmq.bed.password}@127.0.0.1:{port}/%2F"
        bus = rabbitmq.bus(url=url, ca_file=certificate if trusted else None)
        async with running(bus, connected=trusted):
            if trusted:
                assert list(await bus.publish([event(1)])) == []
            else:
                await until(lambda: "certificate" in bus.problem.lower())
    assert len(await rabbitmq.arrived()) == (1 if trusted else 0)


@pytest.mark.parametrize(
    "url", ["http://x:secretpw@h/", "amqp://user@host/", "amqp://u:secretpw@h:99999/", "amqp://u:secretpw@h/?x=1"]
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="not an AMQP address") as refusal:
        RabbitMQBus(Options(url=url), clock=SystemClock())
    assert "secretpw" not in str(refusal.value)


def test_topic_patterns_are_matched_as_rabbitmq_matches_them(rabbitmq: RabbitMQPlace) -> None:
    with rabbitmq.channel() as channel:
        for number, pattern in enumerate(PATTERNS):
            channel.queue_declare(f"pattern-{number}", exclusive=True)
            channel.queue_bind(f"pattern-{number}", rabbitmq.exchange, pattern)
        for key in KEYS:
            channel.basic_publish(rabbitmq.exchange, key, key.encode())
        for number, pattern in enumerate(PATTERNS):
            got = set()
            while (message := channel.basic_get(f"pattern-{number}", auto_ack=True))[0] is not None:
                got.add(message[2].decode())
            assert got == {key for key in KEYS if topic.matches(pattern, key)}, pattern


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "tls.crt", folder / "tls.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@contextlib.asynccontextmanager
async def tls_in_front_of(url: str, certificate: Path, key: Path) -> AsyncIterator[int]:
    """Ends TLS and hands the bytes on to the broker; yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    target = pika.URLParameters(url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(target.host, target.port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
