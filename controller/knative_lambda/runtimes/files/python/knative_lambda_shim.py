"""Hands each request to the user's function; runs inside the function's image, on functions-framework and its server.

runtime.json beside this file names module and function, the user's code lies in ../function. docs/functions.md is the
contract. In short: `handler(event)` or `handler(event, context)`; the event is the CloudEvent when the request is one,
else the HTTP request (flask.Request). A first parameter named `request`, or the decorator functions_framework.http,
asks for the HTTP request always; functions_framework.cloud_event for CloudEvents only. What the handler returns is the
answer: nothing is 204, a CloudEvent is sent as one (a Broker takes it as the reply), (body, status, headers) are what
they say. What it raises is a 500 with an id; the stack is in the log only, under that id.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import base64
import calendar
import functools
import importlib
import inspect
import json
import os
import re
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import flask
import functions_framework
from cloudevents import exceptions
from cloudevents.http import CloudEvent, from_http, from_json, to_structured
from functions_framework import _function_registry
from functions_framework._http.gunicorn import GunicornApplication
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.wrappers import Response

HERE = Path(__file__).resolve().parent
FUNCTION = HERE.parent / "function"
TARGET = "knative_lambda_dispatch"
"""How functions-framework finds us; users' functions are found by `load`."""
HEALTH = ("/health/liveness", "/health/readiness")
STRUCTURED = "application/cloudevents+json"
FORMATS = "application/cloudevents"
REQUIRED = ("specversion", "id", "source", "type")
OPTIONAL = ("datacontenttype", "dataschema", "subject", "time")
DATA = ("data", "data_base64")
NAME = re.compile("[a-z0-9]+")
TIME = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3])(:[0-5]\d){2}(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
SPECVERSIONS = ("1.0", "0.3")
HTTP, CLOUDEVENT, EITHER = "http", "cloudevent", "either"
REQUEST_NAMES = ("request", "req")
CONTEXT_NAMES = ("context", "ctx", "_context", "_ctx")
ALLOWED = "dict, list, str, bytes, CloudEvent, None, a flask.Response, an iterator, (body, status[, headers])"
THREADS = 16
"""Requests at once; the number of processors of a node says nothing of a container's share of them."""
STOP_SECONDS = 3600
"""How long running requests may take after SIGTERM. The platform knows better and ends the process itself."""
STATUSES = range(200, 600)
LOCK = threading.Lock()


@dataclass(frozen=True)
class Context:
    """What a handler is told besides the event."""

    id: str
    """Of this request; an error's answer and its log carry the same."""
    traceparent: str | None
    """W3C trace context, of the HTTP request or else of the CloudEvent's extension."""
    tracestate: str | None
    function: str
    revision: str
    request: Any
    """The HTTP request, a flask.Request."""


@dataclass(frozen=True)
class Wanted:
    """How a handler wants to be called."""

    mode: str
    context: bool


class NotAnEvent(Exception):
    """A request that says it is a CloudEvent and is none; the text is for its sender."""

    status = 400
    said = "not a CloudEvent: "


class NotTaken(NotAnEvent):
    """A format of CloudEvents that nobody here reads; the text is for its sender."""

    status = 415
    said = ""


class Unanswerable(Exception):
    """What the handler returned cannot be sent; the text is for the log."""


def load(root: Path, entry: Mapping[str, str]) -> Callable[..., Any]:
    """The user's function; ends the process with a plain word when there is none."""
    os.chdir(root)
    sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(entry["module"])
    except BaseException as error:  # noqa: BLE001 - sys.exit of a module, too, must not look like a start
        raise SystemExit(f"the function cannot be loaded: {_stack(error)}") from None
    found: Callable[..., Any] | None = getattr(module, entry["function"], None)
    if not callable(found):
        raise SystemExit(f"{entry['module']} has no function {entry['function']}; it has: {_functions(module)}")
    return found


def _stack(error: BaseException) -> str:
    """From the first frame of the user's on: a status and a log have little room."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(str(FUNCTION)):
        trace = trace.tb_next
    own = trace or (None if isinstance(error, (SyntaxError, ImportError)) else error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, own)).rstrip()


def _functions(module: Any) -> str:
    own = [name for name, value in vars(module).items() if inspect.isfunction(value) and name[0] != "_"]
    return ", ".join(own) or "none"


def wanted_by(handler: Callable[..., Any]) -> Wanted:
    """Decided once, by decorator, names and number of the parameters; ends the process when they do not fit."""
    declared: str | None = _function_registry.REGISTRY_MAP.get(getattr(handler, "__name__", ""))
    if declared not in (None, HTTP, CLOUDEVENT):
        raise SystemExit(f"functions of type {declared} are not supported; take an event or a request")
    parameters = inspect.signature(handler).parameters.values()
    placed = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    second = placed[1] if len(placed) > 1 else None
    context = second is not None and (second.default is second.empty or second.name in CONTEXT_NAMES)
    try:
        inspect.signature(handler).bind(*[None] * (2 if context else 1))
    except TypeError:
        words = "the handler must take one argument, the event or the request, or two, then the context"
        raise SystemExit(f"{words}; it has {len(parameters)}") from None
    named = HTTP if placed and placed[0].name in REQUEST_NAMES else EITHER
    return Wanted(declared or named, context)


def event_of(request: Any) -> Any:
    """The CloudEvent that the request carries, None when it carries none; the content type decides."""
    if request.mimetype == STRUCTURED:
        return _structured(request.get_data())
    if request.mimetype.startswith(FORMATS):
        raise NotTaken(f"{request.mimetype} is not taken: send each event by itself, as {STRUCTURED} or in headers")
    if any(f"ce-{name}" in request.headers for name in REQUIRED):
        return _binary(request)
    return None


def _structured(body: bytes) -> Any:
    try:
        attributes = json.loads(body)
    except ValueError as error:
        raise NotAnEvent(f"the body is not JSON ({error})") from None
    if not isinstance(attributes, dict):
        raise NotAnEvent("the body is not a JSON object")
    _check(attributes)
    return _parsed(from_json, body)


def _binary(request: Any) -> Any:
    headers = {name: _decoded(name, value) for name, value in request.headers.items()}
    _check({name.lower()[3:]: value for name, value in headers.items() if name.lower().startswith("ce-")})
    options = {"data_unmarshaller": _json} if request.is_json else {}
    return _parsed(from_http, headers, request.get_data(), **options)


def _parsed(parse: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return parse(*arguments, **options)
    except exceptions.DataUnmarshallerError as error:
        raise NotAnEvent(f"the data is not JSON ({error.__context__})") from None
    except (exceptions.GenericException, ValueError, TypeError) as error:
        raise NotAnEvent(str(error)) from None


def _json(content: Any) -> Any:
    """An empty body is no data."""
    return json.loads(content) if content else None


def _decoded(name: str, value: str) -> str:
    """CloudEvents in HTTP headers are percent-encoded UTF-8; the SDK leaves that to us. A stray % is itself."""
    try:
        return unquote(value, errors="strict") if name.lower().startswith("ce-") else value
    except UnicodeDecodeError:
        raise NotAnEvent("a header is not percent-encoded UTF-8") from None


def _check(attributes: Mapping[str, Any]) -> None:
    """The same in every language; the SDKs differ."""
    missing = [name for name in REQUIRED if attributes.get(name) in (None, "")]
    if missing:
        raise NotAnEvent(f"{', '.join(missing)} missing")
    wrong = [name for name in (*REQUIRED, *OPTIONAL) if not isinstance(attributes.get(name), str | None)]
    if wrong:
        raise NotAnEvent(f"{', '.join(wrong)} must be text")
    if attributes["specversion"] not in SPECVERSIONS:
        raise NotAnEvent(f"specversion {attributes['specversion']} is not one of {', '.join(SPECVERSIONS)}")
    if attributes.get("time") is not None and not _is_moment(attributes["time"]):
        raise NotAnEvent("time is not of the form 2026-01-31T12:00:00Z")
    _check_rest(attributes)


def _is_moment(text: str) -> bool:
    """The form alone does not know how many days a month has."""
    return bool(TIME.fullmatch(text)) and int(text[8:10]) <= calendar.monthrange(int(text[:4]), int(text[5:7]))[1]


def _check_rest(attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if name not in DATA and not NAME.fullmatch(name):
            raise NotAnEvent(f"{name} is no name of an attribute: lower-case letters and digits only")
        if isinstance(value, (dict, list)) and name != "data":
            raise NotAnEvent(f"{name} must be text, a number or a boolean")
    if "data_base64" in attributes:
        _check_bytes(attributes)


def _check_bytes(attributes: Mapping[str, Any]) -> None:
    if "data" in attributes:
        raise NotAnEvent("data and data_base64 exclude each other")
    try:
        base64.b64decode(attributes["data_base64"], validate=True)
    except (TypeError, ValueError):
        raise NotAnEvent("data_base64 is not base64") from None


def rendered(result: Any) -> Any:
    """The handler's result as an HTTP response. Raises Unanswerable."""
    body, *rest = result if isinstance(result, tuple) and result else (result,)
    if len(rest) > 2:
        raise Unanswerable(f"the handler returned a tuple of {len(result)}; allowed: {ALLOWED}")
    try:
        sendable = _sendable(body)
        response = flask.current_app.make_response((sendable, *rest) if rest else sendable)
    except (TypeError, ValueError) as error:
        raise Unanswerable(f"the handler returned {_named(result)}: {error}; allowed: {ALLOWED}") from error
    if response.status_code not in STATUSES:
        raise Unanswerable(f"the handler returned the status {response.status_code}; allowed: 200 to 599")
    return response


def _sendable(body: Any) -> Any:
    """A body that Flask renders, or a response made of it."""
    if body is None:
        nothing = flask.Response(status=204)
        del nothing.headers["content-type"]
        return nothing
    if isinstance(body, CloudEvent):
        headers, content = to_structured(body)
        return flask.Response(content, 200, headers)
    if isinstance(body, (bytes, bytearray)):
        return flask.Response(bytes(body), mimetype="application/octet-stream")
    if isinstance(body, (str, dict, list, Response, Iterator)):
        return flask.jsonify(body) if isinstance(body, (dict, list)) else flask.make_response(body)
    raise TypeError("it cannot be sent")


def _named(result: Any) -> str:
    if isinstance(result, tuple):
        return f"({', '.join(type(one).__name__ for one in result)})"
    return type(result).__name__


@functools.cache
def _started_loop() -> Any:
    import asyncio

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="handlers", daemon=True).start()
    return loop


def awaited(coroutine: Any) -> Any:
    """On one loop for all requests, so that clients which a module keeps stay usable."""
    import asyncio

    with LOCK:
        loop = _started_loop()
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def knative_lambda_dispatch(request: Any) -> Any:
    """Called by functions-framework for every request, in one of its threads."""
    if request.path in HEALTH and request.method == "GET":
        return flask.Response("ok", mimetype="text/plain")
    identity = secrets.token_hex(8)
    try:
        return rendered(_called(request, identity))
    except HTTPException as error:
        if isinstance(error.__cause__, BadRequest):  # Flask keeps what request.get_json() found wrong to itself
            words = (error.__cause__.description or "").removeprefix("Failed to decode JSON object: ")
            return _refused(400, f"the body is not JSON ({words})")
        raise  # flask.abort of the handler
    except NotAnEvent as error:
        return _refused(error.status, f"{error.said}{error}")
    except Unanswerable as error:
        return _failed(identity, str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the handler raises
        return _failed(identity, _stack(error))


def _called(request: Any, identity: str) -> Any:
    event = None if WANTED.mode == HTTP else event_of(request)
    if event is None and WANTED.mode == CLOUDEVENT:
        raise NotAnEvent("this function takes CloudEvents only")
    first = request if event is None else event
    result = HANDLER(first, _context(request, event, identity)) if WANTED.context else HANDLER(first)
    return awaited(result) if inspect.iscoroutine(result) else result


def _context(request: Any, event: Any, identity: str) -> Context:
    extensions = {} if event is None else event
    traced = {name: request.headers.get(name) or extensions.get(name) for name in ("traceparent", "tracestate")}
    function, revision = os.environ.get("K_SERVICE", ""), os.environ.get("K_REVISION", "")
    return Context(id=identity, function=function, revision=revision, request=request, **traced)


def _refused(status: int, words: str) -> Any:
    """Logged, for a Broker takes it as delivered."""
    _log(f"refused: {words}")
    return _plain(status, words)


def _failed(identity: str, words: str) -> Any:
    _log(f"error {identity}: {words}")
    answer = _plain(500, f"internal error {identity}")
    answer.headers["x-error-id"] = identity
    return answer


def _log(words: str) -> None:
    """In one write, so that requests at once do not mix their stacks."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def _plain(status: int, words: str) -> Any:
    return flask.Response(f"{words}\n", status, mimetype="text/plain")


def serve() -> None:
    """functions-framework's app on its server. It listens only after the function is loaded: that is readiness."""
    app = functions_framework.create_app(TARGET, __file__, HTTP)
    host, port = os.environ.get("HOST", "0.0.0.0"), os.environ.get("PORT", "8080")  # noqa: S104 - in a container
    threads = int(os.environ.get("THREADS") or THREADS)
    server = GunicornApplication(app, host, port, False, threads=threads, graceful_timeout=STOP_SECONDS)
    if "control_socket_disable" in server.cfg.settings:  # newer ones make a socket whose path may be too long
        server.cfg.set("control_socket_disable", True)
    server.run()


if __name__ != "__main__":
    HANDLER = load(FUNCTION, json.loads((HERE / "runtime.json").read_text()))
    WANTED = wanted_by(HANDLER)
elif sys.argv[1:] == ["serve"]:  # without, it only proves that its imports work
    serve()
