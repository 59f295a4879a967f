"""A broker of local mode that is killed in the middle of its work loses nothing that it said 202 to."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from knative_lambda.events.sqlite_mailbox import SqliteMailbox
from knative_lambda.resources import names
from tests.local import broker_process
from tests.local.broker_process import ORDERS, TAKEN

ROOT = Path(__file__).parents[2]
SENDERS = 20
HEADERS = {"ce-specversion": "1.0", "ce-source": "/shop", "ce-type": "order.placed", "content-type": "text/plain"}


class Broker:
    """The process."""

    def __init__(self, state: Path) -> None:
        self.state = state
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/broker/shop/default"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", broker_process.__name__, str(self.state), str(self.port), cwd=ROOT
        )
        try:
            await self._answers()
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def post(self, session: aiohttp.ClientSession, name: str) -> int:
        async with session.post(self.url, data=b"x" * 1000, headers={**HEADERS, "ce-id": name}) as answer:
            return answer.status

    def taken(self) -> set[str]:
        path = self.state / TAKEN
        return set(path.read_text().splitlines()) if path.exists() else set()

    def dead(self) -> set[str]:
        box = SqliteMailbox(self.state / "letters.db")
        try:
            return {letter.headers["ce-id"] for letter in box.peek(names.dead_letter_queue(ORDERS), 100_000)}
        finally:
            box.close()

    async def _answers(self) -> None:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    if await self.post(session, "hello") == 202:
                        return
                await asyncio.sleep(0.05)


async def test_nothing_that_was_accepted_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    accepted: set[str] = set()
    for life in range(2):
        async with broker.running() as process, aiohttp.ClientSession() as session:
            senders = [asyncio.create_task(send(broker, session, f"{life}-{one}", accepted)) for one in range(SENDERS)]
            await asyncio.sleep(1)
            process.send_signal(signal.SIGKILL)
            await asyncio.gather(*senders)
    assert len(accepted) > 100
    assert not accepted <= broker.taken() | broker.dead(), "it was killed in the middle of its work"
    async with broker.running(), asyncio.timeout(60):
        while not accepted <= broker.taken() | broker.dead():
            await asyncio.sleep(0.1)
    assert {name for name in accepted if name.endswith("7")} <= broker.dead()


async def send(broker: Broker, session: aiohttp.ClientSession, prefix: str, accepted: set[str]) -> None:
    """Until the broker is gone."""
    number = 0
    with contextlib.suppress(aiohttp.ClientError):
        while True:
            number += 1
            name = f"{prefix}-{number}"
            assert await broker.post(session, name) == 202
            accepted.add(name)


async def test_client_that_sends_10_mb_reads_413(tmp_path: Path) -> None:
    broker = Broker(tmp_path)

    def post() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", broker.port, timeout=10)
        connection.putrequest("POST", "/broker/shop/default")
        for name, value in {**HEADERS, "ce-id": "big", "content-length": "10000000"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                connection.send(b"x" * 1_000_000)
        return connection.getresponse().status

    async with broker.running():
        assert await asyncio.to_thread(post) == 413
