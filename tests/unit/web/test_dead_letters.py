"""The dead-letter sink: what is parked, where, and what the Broker's dispatcher is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from knative_lambda.api.meta import Key
from knative_lambda.events.memory_letters import MemoryLetters
from knative_lambda.kit.clock import SystemClock
from knative_lambda.resources import names
from knative_lambda.web import dead_letters

ORDERS = Key("shop", "orders")
PATH = "/dead-letters/shop/orders"
BINARY = {
    "ce-id": "e-1",
    "ce-source": "/shop",
    "ce-type": "order.placed",
    "ce-specversion": "1.0",
    "ce-knativeerrordest": "http://orders.shop.svc/",
    "ce-knativeerrorcode": "500",
    "ce-knativeerrordata": "Ym9vbQ==",
    "content-type": "application/json",
}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}


class Desk:
    """A sink with memory behind it."""

    def __init__(self) -> None:
        self.letters = MemoryLetters()
        self.counted: list[tuple[Key, str]] = []
        route = dead_letters.route(
            self.letters, clock=SystemClock(), counted=lambda key, reason: self.counted.append((key, reason))
        )
        self._app = Starlette(routes=[route])

    async def post(self, path: str, content: bytes | AsyncIterator[bytes], headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sink") as client:
            return await client.post(path, content=content, headers=headers)

    @property
    def of_orders(self) -> list[bytes]:
        return [one.body for one in self.letters.queues[names.dead_letter_queue(ORDERS)]]

    @property
    def caught(self) -> list[bytes]:
        return [one.body for one in self.letters.queues[names.DEAD_LETTER_QUEUE]]


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.letters.ensure(ORDERS)
    return made


async def test_binary_event_is_parked_with_what_knative_says_of_the_failure(desk: Desk) -> None:
    answer = await desk.post(PATH, b'{"total": 3}', BINARY)
    assert (answer.status_code, answer.content) == (202, b"")
    [letter] = desk.letters.queues[names.dead_letter_queue(ORDERS)]
    assert letter.body == b'{"total": 3}'
    assert letter.content_type == "application/json"
    assert {name: letter.headers[name] for name in BINARY if name.startswith("ce-")} == {
        name: value for name, value in BINARY.items() if name.startswith("ce-")
    }
    assert desk.counted == [(ORDERS, "500")]


async def test_structured_event_is_parked_as_it_came(desk: Desk) -> None:
    body = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}'
    assert (await desk.post(PATH, body, STRUCTURED)).status_code == 202
    assert desk.of_orders == [body]


async def test_data_that_is_no_json_is_an_event_all_the_same(desk: Desk) -> None:
    headers = BINARY | {"content-type": "image/png"}
    assert (await desk.post(PATH, b"\x89PNG", headers)).status_code == 202
    assert desk.of_orders == [b"\x89PNG"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"not an event", {}),
        (b"{broken", STRUCTURED),
        (b'{"id":"1"}', STRUCTURED),
        (b"[]", {"content-type": "application/cloudevents-batch+json"}),
        (b"{}", {"ce-id": "1", "content-type": "application/json"}),
    ],
)
async def test_what_is_no_event_is_kept_in_the_catch_all_with_the_reason(
    desk: Desk, body: bytes, headers: dict[str, str]
) -> None:
    assert (await desk.post(PATH, body, headers)).status_code == 202
    assert desk.caught == [body]
    [letter] = desk.letters.queues[names.DEAD_LETTER_QUEUE]
    assert letter.headers[dead_letters.NOTE_PROBLEM]
    assert letter.headers[dead_letters.NOTE_FUNCTION] == "orders"
    assert desk.of_orders == []


async def test_event_of_an_unknown_function_is_kept_in_the_catch_all(desk: Desk) -> None:
    assert (await desk.post("/dead-letters/shop/nobody", b"{}", BINARY)).status_code == 202
    assert desk.caught == [b"{}"]


async def test_dispatcher_is_asked_to_come_again_while_rabbitmq_is_away(desk: Desk) -> None:
    desk.letters.disconnect()
    answer = await desk.post(PATH, b"{}", BINARY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert desk.counted == []
    desk.letters.connect()
    assert (await desk.post(PATH, b"{}", BINARY)).status_code == 202


@pytest.mark.parametrize("path", ["/dead-letters/Shop/orders", "/dead-letters/shop/a.b", "/dead-letters/shop/%2e%2e"])
async def test_path_that_names_no_function_is_not_found(desk: Desk, path: str) -> None:
    assert (await desk.post(path, b"{}", BINARY)).status_code == 404
    assert desk.caught == []


async def test_letter_that_is_too_large_is_refused_while_it_arrives(desk: Desk) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024 * 1024
            yield b"x" * (1024 * 1024)

    assert (await desk.post(PATH, endless(), BINARY)).status_code == 413
    assert sent <= dead_letters.BODY_LIMIT + 2 * 1024 * 1024
    assert desk.of_orders == []


async def test_too_many_bytes_at_once_are_asked_to_come_again_and_room_is_given_back(desk: Desk) -> None:
    gate = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * dead_letters.BODY_LIMIT
        await gate.wait()

    holding = [asyncio.create_task(desk.post(PATH, slow(), BINARY)) for _ in range(8)]
    await asyncio.sleep(0.1)
    assert (await desk.post(PATH, b"{}", BINARY)).status_code == 503
    gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*holding)] == [202] * 8
    assert (await desk.post(PATH, b"{}", BINARY)).status_code == 202


async def test_structured_event_with_data_of_any_kind_is_no_unreadable_letter(desk: Desk) -> None:
    body = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"words"}'
    assert (await desk.post(PATH, body, STRUCTURED)).status_code == 202
    assert desk.of_orders == [body]
