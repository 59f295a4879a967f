"""The application behind the operations port. Built and served by wiring, which may hang on further routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from knative_lambda.kit.clock import Clock
from knative_lambda.web.heartbeat import Heartbeat
from knative_lambda.web.metrics import Metrics
from knative_lambda.web.page import Page, negotiate
from knative_lambda.web.readiness import Readiness
from knative_lambda.web.requests import MeasuredRequests

NO_STORE = {"cache-control": "no-store"}


def build(
    *,
    heartbeat: Heartbeat,
    readiness: Readiness,
    page: Page,
    metrics: Metrics,
    clock: Clock,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """/healthz, /livez, /readyz and /metrics, and `routes` beside them; every request is counted."""

    async def healthz(_request: Request) -> Response:
        """The process is up and its loop turns."""
        return PlainTextResponse("ok\n", headers=NO_STORE)

    async def livez(_request: Request) -> Response:
        """503 when a restart would help."""
        pulse = heartbeat.pulse()
        body = {"alive": not pulse.problems, **asdict(pulse)}
        return JSONResponse(body, status_code=503 if pulse.problems else 200, headers=NO_STORE)

    async def readyz(_request: Request) -> Response:
        """503 until this process can do its work."""
        report = await readiness.report()
        return JSONResponse(report.body, status_code=200 if report.is_ready else 503, headers=NO_STORE)

    async def show_metrics(request: Request) -> Response:
        """For Prometheus."""
        form = negotiate(request.headers.get("accept", ""), request.headers.get("accept-encoding", ""))
        encoding = {"content-encoding": "gzip"} if form.gzip else {}
        headers = {"content-type": form.content_type, "vary": "accept, accept-encoding", **encoding}
        return Response(await page.render(form), headers=headers)

    own = [
        Route("/healthz", healthz),
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", show_metrics),
    ]
    return Starlette(routes=[*own, *routes], middleware=[Middleware(MeasuredRequests, metrics=metrics, clock=clock)])
