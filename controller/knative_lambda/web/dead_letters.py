"""`POST /dead-letters/NAMESPACE/FUNCTION`: the dead-letter sink of every function's Triggers.

Knative takes whatever is no 404, 408, 409, 429 or 5xx for a delivery and forgets the event. So 202 is said only when
RabbitMQ confirmed, 503 when it did not, and what is no CloudEvent is parked all the same, in the catch-all queue.
Built by wiring, served on the operations port of every replica.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from knative_lambda.api.meta import Key
from knative_lambda.events import encoding
from knative_lambda.events.dead_letters import DeadLetters, Letter
from knative_lambda.kit.clock import Clock
from knative_lambda.resources import names
from knative_lambda.web.held import Full, Hold, TooLarge

PATH = "/dead-letters/{namespace}/{function}"
BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of one letter. A larger one is refused for good: RabbitMQ itself takes no more than 16 MiB."""
HELD_LIMIT = 64 * 1024 * 1024
"""Bytes of all letters that are on their way; further ones are asked to come again."""
UNREADABLE = "unreadable"
"""First word of the routing key of what is no CloudEvent: no function's queue is bound to it."""

NOTE_NAMESPACE = "knative-lambda-namespace"
NOTE_FUNCTION = "knative-lambda-function"
NOTE_RECEIVED = "knative-lambda-received"
NOTE_PROBLEM = "knative-lambda-problem"
"""Headers of ours on every letter; the last one only on what is no CloudEvent."""

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_AGAIN = {"retry-after": "1"}

log = structlog.get_logger(__name__)

Counted = Callable[[Key, str], None]
"""Told of every parked letter: function, and the status that the function answered last, or `unknown`."""


def route(letters: DeadLetters, *, clock: Clock, counted: Counted) -> Route:
    """The sink, as a route of the operations port."""
    hold = Hold(HELD_LIMIT, each=BODY_LIMIT)

    async def receive(request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["function"]
        if not (_NAME.match(namespace) and _NAME.match(name)):
            return PlainTextResponse("no such function\n", status_code=404)
        function = Key(namespace, name)
        try:
            async with hold.body(request) as body:
                letter = letter_of(function, body, request.headers, received=clock.now())
                parked = await letters.park(letter)
        except TooLarge:
            log.error("dead letter refused", function=str(function), limit=BODY_LIMIT)
            return PlainTextResponse(f"at most {BODY_LIMIT} bytes are kept\n", status_code=413)
        except Full:
            return PlainTextResponse("too many dead letters at once\n", status_code=503, headers=_AGAIN)
        except ClientDisconnect:
            return PlainTextResponse("", status_code=400)
        if not parked:
            return PlainTextResponse("RabbitMQ did not take it\n", status_code=503, headers=_AGAIN)
        counted(function, request.headers.get("ce-knativeerrorcode", "unknown"))
        return Response(status_code=202)

    return Route(PATH, receive, methods=["POST"])


def letter_of(function: Key, body: bytes, headers: Mapping[str, str], *, received: datetime) -> Letter:
    """The letter of one request, header names in lower case; also called by local.delivery, which has no requests.

    What Knative says of the failure (`ce-knativeerror…`) is among its headers.
    """
    problem = _problem(body, headers)
    kept = {name: value for name, value in headers.items() if name.startswith("ce-")}
    notes = {
        NOTE_NAMESPACE: function.namespace,
        NOTE_FUNCTION: function.name,
        NOTE_RECEIVED: received.isoformat(),
        **({NOTE_PROBLEM: problem} if problem else {}),
    }
    key = names.dead_letter_key(function)
    return Letter(
        id=uuid.uuid4().hex,
        routing_key=f"{UNREADABLE}.{function.namespace}.{function.name}" if problem else key,
        body=body,
        content_type=headers.get("content-type", "")[:255],
        headers={**kept, **notes},
    )


def _problem(body: bytes, headers: Mapping[str, str]) -> str:
    """Why it is no CloudEvent. Data of any kind is fine here: nobody reads it before the function does."""
    if not headers.get("content-type", "").lower().startswith("application/cloudevents"):
        missing = [name for name in ("id", "source", "type", "specversion") if not headers.get(f"ce-{name}")]
        return f"headers are missing: {', '.join(f'ce-{name}' for name in missing)}" if missing else ""
    try:
        encoding.unfold(body, headers, limit=BODY_LIMIT)
    except encoding.InvalidEvent as error:
        return str(error)[:500]
    return ""
