"""The receiver behind real HTTP: giants, dawdlers and an orderly end."""

from __future__ import annotations

import asyncio
import resource
import socket
import statistics
import time
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from knative_lambda.kit.clock import SystemClock
from knative_lambda.wiring import http
from knative_lambda.wiring.http import Listener
from tests.unit.receivers.loopback import served
from tests.unit.receivers.senders import body_of, signed
from tests.unit.receivers.stage import KEY, Stage


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
async def stage() -> Stage:
    made = Stage(clock=SystemClock())
    await made.secret()
    return made


async def test_a_signed_delivery_is_answered_over_http(stage: Stage) -> None:
    body = body_of("github")
    async with served(stage.app) as port, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"http://127.0.0.1:{port}{stage.path}", content=body, headers=signed("github", body))
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert "server" not in answer.headers
    assert stage.asked == [KEY]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
async def test_a_hundred_megabytes_neither_stay_in_memory_nor_are_read(stage: Stage, announced: bool) -> None:
    """The sender finds its connection closed long before it has sent them."""
    sent = 0
    async with served(stage.app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        length = f"Content-Length: {100 * 2**20}" if announced else "Transfer-Encoding: chunked"
        head = f"POST {stage.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
        writer.write(head.encode())
        before, most, block = resident(), 0, b"x" * 65536
        chunk = block if announced else b"10000\r\n" + block + b"\r\n"
        try:
            for _ in range(1600):
                writer.write(chunk)
                await asyncio.wait_for(writer.drain(), 5)
                sent += len(block)
                most = max(most, resident() - before)
        except (ConnectionError, TimeoutError):
            pass
        assert sent < 40 * 2**20
        assert most < 32 * 2**20
        writer.close()
        answer = await asyncio.wait_for(_rest(reader), 5)
    assert answer in (b"", b"HTTP/1.1 413")
    assert stage.asked == []


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """The status line's beginning; a reset may have eaten it."""
    try:
        return (await reader.read(1000))[:12]
    except ConnectionError:
        return b""


async def test_headers_that_never_end_are_hung_up_on(stage: Stage) -> None:
    async with served(stage.app, header_seconds=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /hook/x HTTP/1.1\r\n")
        for number in range(20):
            try:
                writer.write(f"X-{number}: y\r\n".encode())
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0.05)
        assert await asyncio.wait_for(_rest(reader), 2) == b""
        writer.close()


async def test_answers_on_an_open_connection_do_not_wait_for_acknowledgements(stage: Stage) -> None:
    """Without TCP_NODELAY each takes over 40 ms."""
    body = body_of("github")
    async with served(stage.app) as port, httpx.AsyncClient(trust_env=False) as client:
        url, headers = f"http://127.0.0.1:{port}{stage.path}", signed("github", body)
        await client.post(url, content=body, headers=headers)
        times = []
        for _ in range(20):
            began = time.perf_counter()
            await client.post(url, content=body, headers=headers)
            times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.025


async def test_a_request_that_runs_is_finished_before_the_listener_ends() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        begun.set()
        await go.wait()
        return PlainTextResponse("done")

    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    listener = Listener("test", "127.0.0.1", port)
    serving = asyncio.create_task(http.serve(listener, Starlette(routes=[Route("/", slow)]), sock))
    async with httpx.AsyncClient(trust_env=False) as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
        await begun.wait()
        serving.cancel()
        await asyncio.sleep(0.2)
        assert not serving.done()
        go.set()
        assert (await asking).text == "done"
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_taken_port_is_an_error_that_names_it_and_does_not_end_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = http.service(Listener("webhooks", "127.0.0.1", port), Starlette())
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port} for webhooks"):
            await service.run()


async def test_more_connections_than_allowed_are_turned_away() -> None:
    go = asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        await go.wait()
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", slow)])
    async with served(app, connections=5) as port, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{port}/"
        asking = [asyncio.create_task(client.get(url)) for _ in range(2)]
        await asyncio.sleep(0.2)
        asking += [asyncio.create_task(client.get(url)) for _ in range(10)]
        await asyncio.sleep(0.3)
        go.set()
        statuses = [(await one).status_code for one in asking]
    assert statuses[:2] == [200, 200]
    assert statuses.count(503) >= 7
