"""Dead letters per second: into the sink with RabbitMQ's confirm, and out again to an HTTP target.

One real RabbitMQ; the sink is served by uvicorn as in production, target and client are in this process.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
from starlette.applications import Starlette

from knative_lambda.api.meta import Key
from knative_lambda.cli.target import Target
from knative_lambda.events.rabbitmq import Options
from knative_lambda.events.rabbitmq_letters import RabbitMQLetters
from knative_lambda.events.rabbitmq_mailbox import RabbitMQMailbox
from knative_lambda.kit.clock import SystemClock
from knative_lambda.resources import names
from knative_lambda.web import dead_letters
from knative_lambda.wiring import http
from knative_lambda.wiring.http import Listener
from tests.benchmarks.table import Figure
from tests.testbed.rabbitmq import RabbitMQBed

CONNECTIONS = 32
FUNCTION = Key("shop", "orders")
HEADERS = {
    "ce-id": "1", "ce-source": "/shop", "ce-type": "order.placed", "ce-specversion": "1.0",
    "ce-knativeerrorcode": "500", "content-type": "application/json",
}  # fmt: skip
BODY = b'{"text": "' + b"x" * 1000 + b'"}'


def run(count: int) -> list[Figure]:
    """`count` letters of 1 KiB in, and out again."""
    with RabbitMQBed.start() as bed:
        parked = asyncio.run(_park(bed.amqp_url, count))
        replayed = _replay(bed.amqp_url, count)
    return [
        Figure("dead letters stored by the sink, with confirms, per second", f"{parked:.0f}"),
        Figure("dead letters replayed to an HTTP target, per second", f"{replayed:.0f}"),
    ]


async def _park(url: str, count: int) -> float:
    letters = RabbitMQLetters(Options(url=url), clock=SystemClock(), declares=True)
    await letters.start()
    while not (await letters.ensure(FUNCTION)).is_ready:
        await asyncio.sleep(0.05)
    app = Starlette(routes=[dead_letters.route(letters, clock=SystemClock(), counted=lambda _key, _reason: None)])
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    serving = asyncio.create_task(http.serve(Listener("sink", "127.0.0.1", 0), app, sock))
    try:
        return await _hammer(f"http://127.0.0.1:{port}/dead-letters/{FUNCTION}", count)
    finally:
        serving.cancel()
        await asyncio.wait({serving})
        await letters.close()


async def _hammer(url: str, count: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def one() -> int:
            async with session.post(url, data=BODY, headers=HEADERS) as answer:
                return answer.status

        began = time.monotonic()
        statuses = await asyncio.gather(*(one() for _ in range(count)))
        seconds = time.monotonic() - began
    if set(statuses) != {202}:
        raise RuntimeError(f"the sink answered {sorted(set(statuses))}")
    return count / seconds


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def _replay(url: str, count: int) -> float:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = Target.parse(f"http://127.0.0.1:{server.server_port}/", timeout=10)
    mailbox = RabbitMQMailbox(url)
    began = time.monotonic()
    delivered, left = mailbox.drain(names.dead_letter_queue(FUNCTION), count, target.accepts)
    seconds = time.monotonic() - began
    target.close()
    mailbox.close()
    server.shutdown()
    server.server_close()
    if (delivered, left) != (count, 0):
        raise RuntimeError(f"{delivered} of {count} were delivered, {left} left")
    return count / seconds
