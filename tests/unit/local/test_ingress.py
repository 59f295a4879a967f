"""What a sender is told who sends something that is no event, too much, or to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.local.broker_desk import BINARY, ORDERS, Desk

STRUCTURED = {"content-type": "application/cloudevents+json"}


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (b"{", STRUCTURED, "the event is not JSON"),
        (b"[]", STRUCTURED, "the event must be a JSON object"),
        (b"{}", STRUCTURED, "required and missing or empty: specversion, id, source, type"),
        (b"{}", {"content-type": "application/json"}, "not a CloudEvent (content type application/json)"),
        (b"{}", {}, "not a CloudEvent (content type missing)"),
        (b"{}", {**BINARY, "ce-specversion": ""}, "required and missing or empty: specversion"),
        (b"{}", {**BINARY, "ce-specversion": "0.3"}, "specversion"),
        (b"{}", {**BINARY, "ce-time": "now"}, "time must be RFC 3339"),
        (b"{}", {**BINARY, "ce-source": "a%20b"}, "source must be a URI reference"),
        (b"{}", {**BINARY, "ce-my_name": "x"}, "'my_name' is not an attribute name"),
        (b"[]", {"content-type": "application/cloudevents-batch+json"}, "one event at a time"),
    ],
)
async def test_broken_event_is_400_with_what_is_wrong(
    tmp_path: Path, body: bytes, headers: dict[str, str], told: str
) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard()
        answer = await desk.send("/broker/shop/default", body, headers)
        assert answer.status_code == 400
        assert told in answer.text
        assert desk.notices == []


async def test_body_of_10_mb_is_413_whether_or_not_it_says_so_before(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1_000_000

    async with Desk(tmp_path).running() as desk:
        await desk.standard()
        announced = await desk.post(b"x" * 10_000_000)
        assert (announced.status_code, announced.text) == (413, "an event has at most 1048576 bytes here\n")
        chunked = await desk.post(chunks())
        assert chunked.status_code == 413
        assert announced.headers["connection"] == chunked.headers["connection"] == "close"
        assert (await desk.post(b"x" * 1_000_000)).status_code == 202
        await desk.called(1)


async def test_unknown_broker_and_other_paths_are_404(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard()
        answer = await desk.post(path="/broker/shop/nobody")
        assert (answer.status_code, answer.text) == (404, "there is no Broker shop/nobody\n")
        assert (await desk.post(path="/broker/shop/default/more")).status_code == 404


async def test_body_that_does_not_come_is_408(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard()

        async def stops() -> AsyncIterator[bytes]:
            yield b"{"
            await desk.clock.sleep(1000)
            yield b"}"

        sending = asyncio.ensure_future(desk.post(stops()))
        await asyncio.sleep(0.05)
        await desk.clock.advance(31)
        answer = await asyncio.wait_for(sending, 5)
        assert answer.status_code == 408
        assert desk.calls_of(ORDERS) == []
