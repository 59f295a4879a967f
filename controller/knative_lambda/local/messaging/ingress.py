"""`POST /broker/NAMESPACE/NAME`: where events come in. 202 is said when every queue has the event on disk.

Built by broker, served on local mode's one port.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from knative_lambda.api.meta import Key
from knative_lambda.events import encoding
from knative_lambda.events.encoding import InvalidEvent
from knative_lambda.kit.clock import Clock
from knative_lambda.local.messaging.delivery import TRACE, Publish
from knative_lambda.machinery.timing import within
from knative_lambda.web.held import Full, Hold, TooLarge

PATH = "/broker/{namespace}/{name}"
HELD_LIMIT = 64 * 1024 * 1024
"""Bytes of all events that are on their way; further ones are asked to come again."""
READ_SECONDS = 30.0
"""How long a body may take to arrive."""


class _Refused(Exception):
    """An answer that is no 202."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def route(known: Callable[[Key], bool], publish: Publish, *, clock: Clock, limit: int) -> Route:
    """The ingress of every Broker. `known`: whether there is that Broker; `limit`: bytes of one event."""
    hold = Hold(HELD_LIMIT, each=limit)

    async def receive(request: Request) -> Response:
        broker = Key(request.path_params["namespace"], request.path_params["name"])
        try:
            if not known(broker):
                raise _Refused(404, f"there is no Broker {broker}")
            async with AsyncExitStack() as stack:
                body = await _read(request, hold, stack, clock, limit)
                return await _publish(broker, body, request, publish, limit)
        except _Refused as refusal:
            return _answer(refusal)
        except ClientDisconnect:
            return PlainTextResponse("", status_code=400)

    return Route(PATH, receive, methods=["POST"])


async def _read(request: Request, hold: Hold, stack: AsyncExitStack, clock: Clock, limit: int) -> bytes:
    """The body, which is held as long as the stack is. One that says to be too large is not even begun."""
    announced = request.headers.get("content-length", "")
    too_large = _Refused(413, f"an event has at most {limit} bytes here")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    try:
        return await within(clock, READ_SECONDS, stack.enter_async_context(hold.body(request)))
    except TooLarge as error:
        raise too_large from error
    except Full as error:
        raise _Refused(503, "too many events at once") from error
    except TimeoutError as error:
        raise _Refused(408, f"the event did not arrive within {READ_SECONDS:g} s") from error


async def _publish(broker: Key, body: bytes, request: Request, publish: Publish, limit: int) -> Response:
    try:
        message = encoding.unfold(body, request.headers, limit=limit)
    except InvalidEvent as error:  # a batch as well: Knative's ingress says 400 to both
        raise _Refused(400, str(error)) from error
    trace = {name: request.headers[name] for name in TRACE if name in request.headers}
    reception = await publish(broker, message, trace, 0)
    if reception.problem:
        raise _Refused(reception.status, reception.problem)
    return Response(status_code=reception.status)


def _answer(refusal: _Refused) -> Response:
    """Of a body that nobody reads to its end the connection goes, too."""
    headers = {"retry-after": "1"} if refusal.status in (503, 507) else {}
    if refusal.status in (404, 408, 413, 503):
        headers["connection"] = "close"
    return PlainTextResponse(f"{refusal}\n", status_code=refusal.status, headers=headers)
