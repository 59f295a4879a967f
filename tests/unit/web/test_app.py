"""The operations port as kubelet and Prometheus see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import ClusterError, Forbidden, TooManyRequests, Unavailable
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.events.memory import MemoryBus
from knative_lambda.machinery.informer import Informer
from knative_lambda.web import app
from knative_lambda.web.heartbeat import SILENCE, Heartbeat
from knative_lambda.web.readiness import PATIENCE, ApiServer, Readiness
from tests.unit.machinery.link import Link, running, settle, until

from .desk import Desk


class House:
    """The application over twins of everything."""

    def __init__(self, *routes: BaseRoute) -> None:
        self.desk = Desk()
        clock = self.desk.clock
        self.cluster = MemoryCluster(clock=clock)
        self.link = Link(self.cluster, clock)
        self.bus = MemoryBus()
        self.stopping = False
        self.informer: Informer[Any] = Informer(self.cluster, kinds.JOB, lambda obj: obj, clock=clock)
        self.missing: Informer[Any] = Informer(self.cluster, kinds.TRIGGER, lambda obj: obj, clock=clock)
        self.heartbeat = Heartbeat(clock=clock)
        readiness = Readiness(
            informers=(self.informer, self.missing),
            api_server=ApiServer(self.link, Key("system", "lease"), clock=clock),
            bus=self.bus,
            leads=lambda: self.desk.leads,
            is_stopping=lambda: self.stopping,
        )
        self.app = app.build(
            heartbeat=self.heartbeat,
            readiness=readiness,
            page=self.desk.page,
            metrics=self.desk.metrics,
            clock=clock,
            routes=routes,
        )

    @asynccontextmanager
    async def synced(self) -> AsyncIterator[httpx.AsyncClient]:
        """With full caches."""
        async with running(self.informer.run(), self.missing.run()):
            await until(lambda: self.informer.synced and self.missing.synced)
            async with self.client() as client:
                yield client

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://operations")


async def test_a_process_that_answers_is_healthy() -> None:
    async with House().client() as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_nobody_is_ready_before_the_caches_are_full() -> None:
    async with House().client() as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["caches"] == {
        "synced": False,
        "filling": ["Job.batch", "Trigger.eventing.knative.dev"],
        "notInstalled": [],
    }


async def test_a_leader_with_full_caches_is_ready() -> None:
    async with House().synced() as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "role": "leader",
        "stopping": False,
        "caches": {"synced": True, "filling": [], "notInstalled": ["Trigger.eventing.knative.dev"]},
        "apiServer": {"answers": True, "problem": ""},
        "rabbitmq": {"connected": True, "problem": ""},
    }


async def test_a_standby_is_ready_too() -> None:
    house = House()
    house.desk.leads = False
    async with house.synced() as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["role"]) == (200, "standby")


async def test_rabbitmq_away_is_shown_and_leaves_the_process_ready() -> None:
    house = House()
    house.bus.disconnect()
    async with house.synced() as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["rabbitmq"] == {"connected": False, "problem": "the memory bus is disconnected"}


@pytest.mark.parametrize(
    ("error", "status"),
    [(Forbidden("no"), 200), (Unavailable("the server is down"), 503), (TooManyRequests("later"), 503)],
)
async def test_an_api_server_that_refuses_has_answered(error: ClusterError, status: int) -> None:
    house = House()
    async with house.synced() as client:
        house.cluster.fail_next("get", kinds.LEASE, error)
        answer = await client.get("/readyz")
    assert answer.status_code == status
    assert answer.json()["apiServer"]["problem"] == ("" if status == 200 else error.message)


async def test_an_api_server_that_hangs_is_not_waited_for_longer_than_a_kubelet_waits_for_us() -> None:
    house = House()
    async with house.synced() as client:
        house.link.down = True
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await client.get("/readyz"))

        async with running(ask(), ask()):
            await settle()
            assert answers == []
            await house.desk.clock.advance(PATIENCE)
            await until(lambda: len(answers) == 2)
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].json()["apiServer"]["problem"] == "no answer within 0.8 s"
    assert len(house.link.times("get")) == 1, "two probes at once are one question"


async def test_an_answer_of_the_api_server_counts_for_a_moment() -> None:
    house = House()
    async with house.synced() as client:
        for _ in range(5):
            await client.get("/readyz")
        assert len(house.link.times("get")) == 1
        await house.desk.clock.advance(2)
        await client.get("/readyz")
        assert len(house.link.times("get")) == 2


async def test_a_process_that_ends_is_not_ready() -> None:
    house = House()
    async with house.synced() as client:
        house.stopping = True
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["stopping"]) == (503, True)


async def test_liveness_is_bound_to_the_heartbeat() -> None:
    house = House()
    async with house.client() as client:
        async with running(house.heartbeat.run()):
            await house.desk.clock.advance(60)
            alive = await client.get("/livez")
        await house.desk.clock.advance(SILENCE + 1)
        dead = await client.get("/livez")
    assert (alive.status_code, alive.json()["alive"]) == (200, True)
    assert (dead.status_code, dead.json()["alive"]) == (503, False)
    assert dead.json()["problems"] == ["no heartbeat for 16 s"]


async def test_metrics_come_in_the_form_that_was_asked_for() -> None:
    house = House()
    async with house.client() as client:
        plain = await client.get("/metrics", headers={"accept-encoding": "identity"})
        modern = await client.get(
            "/metrics", headers={"accept": "application/openmetrics-text", "accept-encoding": "gzip"}
        )
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "content-encoding" not in plain.headers
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.headers["content-encoding"] == "gzip"
    assert modern.text.endswith("# EOF\n")


async def _echo(request: Request) -> Response:
    return PlainTextResponse(await request.body(), status_code=202)


async def _break(_request: Request) -> Response:
    raise RuntimeError("broken")


ROUTES: tuple[BaseRoute, ...] = (
    Route("/dead-letters/{namespace}/{function}", _echo, methods=["POST"]),
    Route("/broken", _break),
)
Ask = Callable[[httpx.AsyncClient], Any]


@pytest.mark.parametrize(
    ("ask", "labels", "size"),
    [
        (
            lambda client: client.post("/dead-letters/shop/hello", content=b"x" * 2000),
            {"method": "POST", "endpoint": "/dead-letters/{namespace}/{function}", "status_code": "202"},
            2000,
        ),
        (
            lambda client: client.get("/dead-letters/shop/hello"),
            {"method": "GET", "endpoint": "/dead-letters/{namespace}/{function}", "status_code": "405"},
            0,
        ),
        (
            lambda client: client.get("/nowhere/at/all"),
            {"method": "GET", "endpoint": "other", "status_code": "404"},
            0,
        ),
        (lambda client: client.get("/broken"), {"method": "GET", "endpoint": "/broken", "status_code": "500"}, 0),
    ],
)
async def test_a_request_is_counted_by_the_template_of_its_route(ask: Ask, labels: dict[str, str], size: int) -> None:
    house = House(*ROUTES)
    async with house.client() as client:
        await ask(client)
    assert await house.desk.value("operator_api_requests_total", **labels) == 1
    assert len(await house.desk.samples("operator_api_requests_total")) == 1
    assert await house.desk.value("operator_api_request_size_bytes_sum") == size
    assert await house.desk.value("operator_api_request_duration_seconds_count") == 1
