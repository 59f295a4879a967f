"""Dead letters per second: into the sink with RabbitMQ's confirm, and out again to an HTTP target.

One real RabbitMQ; the sink is served by uvicorn as in production, target and client are in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

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
from tests.benchmarks.posting import accepted_per_second
from tests.benchmarks.table import Figure
from tests.listening import Quiet, served
from tests.testbed.rabbitmq import RabbitMQBed

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
        return await accepted_per_second(f"http://127.0.0.1:{port}/dead-letters/{FUNCTION}", BODY, HEADERS, count=count)
    finally:
        serving.cancel()
        await asyncio.wait({serving})
        await letters.close()


class _Taking(Quiet):
    def do_POST(self) -> None:
        self.body()
        self.answer(202)


def _replay(url: str, count: int) -> float:
    with (
        served(_Taking) as port,
        contextlib.closing(Target.parse(f"http://127.0.0.1:{port}/", timeout=10)) as target,
        contextlib.closing(RabbitMQMailbox(url)) as mailbox,
    ):
        began = time.monotonic()
        delivered, left = mailbox.drain(names.dead_letter_queue(FUNCTION), count, target.accepts)
        seconds = time.monotonic() - began
    if (delivered, left) != (count, 0):
        raise RuntimeError(f"{delivered} of {count} were delivered, {left} left")
    return count / seconds
