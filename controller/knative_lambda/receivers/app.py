"""The webhooks' HTTP application: POST /hook/<digest>. Made by wiring; served on a port of its own."""

from __future__ import annotations

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from knative_lambda.receivers.outcomes import STATUS, Outcome
from knative_lambda.receivers.reception import Answer, World, receive

_UNREAD = frozenset(
    {Outcome.NOT_JSON, Outcome.TOO_LARGE, Outcome.TOO_SLOW, Outcome.CUT_OFF, Outcome.BUSY, Outcome.MALFORMED}
)
"""Outcomes that may leave a body behind that nobody will read."""
_WORDS = {
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    503: "Service Unavailable",
}


def build(world: World) -> Starlette:
    """The application; every answer of 404 is the one that a path gets which is not there at all."""

    async def hook(request: Request) -> Response:
        try:
            answer = await receive(request.url.path, dict(request.headers.items()), request.stream(), world)
        except ClientDisconnect:
            world.counts.add(None, Outcome.CUT_OFF)
            answer = Answer(Outcome.CUT_OFF)
        return _response(answer)

    app = Starlette(routes=[Route("/hook/{digest}", hook, methods=["POST"])])
    app.router.redirect_slashes = False
    return app


def _response(answer: Answer) -> Response:
    status = STATUS[answer.outcome]
    headers = {"connection": "close"} if answer.outcome in _UNREAD else None
    if status in _WORDS:
        return PlainTextResponse(_WORDS[status], status_code=status, headers=headers)
    body = orjson.dumps({"status": answer.outcome.value, "message": answer.message})
    return Response(body, status_code=status, headers=headers, media_type="application/json")
