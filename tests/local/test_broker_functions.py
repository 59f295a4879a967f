"""Events to functions that are processes: a cold start, a reply, a failure, the dead letter and its replay."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Object
from knative_lambda.events import resending
from knative_lambda.events.mailbox import Parked
from knative_lambda.events.sqlite_letters import SqliteLetters
from knative_lambda.events.sqlite_mailbox import SqliteMailbox
from knative_lambda.local.messaging.broker import LocalBroker
from knative_lambda.resources import names
from tests.local.stage import NAMESPACE, Stage, condition, staged, until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are read from /proc")

PROGRAM = """
import http.server, json, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        event = {k.lower(): v for k, v in self.headers.items()} | {"body": body.decode()}
        print("GOT", json.dumps(event), flush=True)
        self.send_response(int(os.environ["STATUS"]))
        if "REPLY" in os.environ:
            for name, value in {"Ce-Specversion": "1.0", "Ce-Id": "r-1", "Ce-Source": "/fn"}.items():
                self.send_header(name, value)
            self.send_header("Ce-Type", os.environ["REPLY"])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
ONCE = {"retry": 0}
TO_ZERO = {"initial-scale": "0", "scale-to-zero-pod-retention-period": "0s"}


class Bed:
    """A stage with a broker."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.letters_file = stage.folder / "letters.db"
        self.letters = SqliteLetters(self.letters_file)
        self.broker = LocalBroker(
            stage.cluster, stage.server.call, self.letters, stage.folder / "events.db", clock=stage.clock
        )
        self._app = Starlette(routes=self.broker.routes())

    async def function(self, name: str, *, status: int = 202, reply: str = "") -> None:
        env = {"STATUS": str(status), **({"REPLY": reply} if reply else {})}
        await self.stage.apply(name, image=self.stage.image(PROGRAM), env=env, annotations=TO_ZERO)
        await self.stage.settled(name)

    async def trigger(self, function: str, kind: str) -> None:
        ref = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": function}
        spec: Object = {"broker": "default", "subscriber": {"ref": ref}, "delivery": ONCE}
        await self.apply(kinds.TRIGGER, function, {**spec, "filter": {"attributes": {"type": kind}}})

        async def is_ready() -> bool:
            found = await self.stage.cluster.get(kinds.TRIGGER, Key(NAMESPACE, function))
            return condition(found, "Ready").get("status") == "True"

        await until(is_ready)

    async def apply(self, kind: Kind, name: str, spec: Object) -> None:
        metadata = {"name": name, "namespace": NAMESPACE}
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
        await self.stage.cluster.apply(kind, manifest)

    async def send(self, kind: str, name: str = "e-1") -> None:
        headers = {"ce-specversion": "1.0", "ce-id": name, "ce-source": "/shop", "ce-type": kind}
        await self.post(b'{"total": 3}', {**headers, "content-type": "application/json"})

    async def post(self, body: bytes, headers: dict[str, str]) -> None:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            answer = await client.post(f"/broker/{NAMESPACE}/default", content=body, headers=headers)
        assert answer.status_code == 202, answer.text

    def got(self, function: str) -> list[dict[str, str]]:
        """What the function says it got."""
        lines = self.stage.logs(function).splitlines()
        return [json.loads(line.partition("GOT ")[2]) for line in lines if "GOT " in line]


@asynccontextmanager
async def bedded(folder: Path) -> AsyncIterator[Bed]:
    async with staged(folder) as stage:
        stage.cluster.install(kinds.BROKER)
        stage.cluster.install(kinds.TRIGGER)
        bed = Bed(stage)
        [service] = bed.broker.services()
        assert service.drain is not None
        running = asyncio.ensure_future(service.run())
        try:
            await bed.apply(kinds.BROKER, "default", {})
            yield bed
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await service.drain()
            await bed.letters.close()


async def test_event_starts_a_function_and_its_reply_starts_the_next(tmp_path: Path) -> None:
    async with bedded(tmp_path) as bed:
        await bed.function("first", status=200, reply="order.accepted")
        await bed.function("second")
        await bed.trigger("first", "order.placed")
        await bed.trigger("second", "order.accepted")
        await bed.send("order.placed")
        [event] = await until(lambda: bed.got("first"))
        assert (event["ce-id"], event["content-type"], event["body"]) == ("e-1", "application/json", '{"total": 3}')
        [reply] = await until(lambda: bed.got("second"))
        assert (reply["ce-id"], reply["ce-type"], reply["ce-source"]) == ("r-1", "order.accepted", "/fn")


async def test_dead_letter_is_replayed_after_the_function_was_mended(tmp_path: Path) -> None:
    async with bedded(tmp_path) as bed:
        await bed.function("orders", status=500)
        await bed.trigger("orders", "order.placed")
        await bed.letters.ensure(Key(NAMESPACE, "orders"))
        await bed.send("order.placed")
        queue = names.dead_letter_queue(Key(NAMESPACE, "orders"))
        await until(lambda: bed.got("orders"))

        async def is_parked() -> bool:
            return await bed.letters.depths([queue]) == {queue: 1}

        await until(is_parked)
        await bed.function("orders", status=202)
        box = SqliteMailbox(bed.letters_file)
        [letter] = box.peek(queue, 10)
        assert letter.headers["ce-knativeerrorcode"] == "500"
        loop = asyncio.get_running_loop()

        def deliver(parked: Parked) -> bool:
            message = resending.message(parked)
            asyncio.run_coroutine_threadsafe(bed.post(message.body, dict(message.headers)), loop).result(10)
            return True

        assert await asyncio.to_thread(box.drain, queue, 10, deliver) == (1, 0)
        events = await until(lambda: bed.got("orders")[1:])
        assert {name: events[0][name] for name in ("ce-id", "body")} == {"ce-id": "e-1", "body": '{"total": 3}'}
        assert box.depth(queue) == 0
        box.close()
