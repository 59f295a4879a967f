"""Hands each request to the user's function; runs inside the function's image, under functions-framework.

runtime.json beside this file names module and function, the user's code lies in ../function. The handler takes one
argument: the CloudEvent when the request is one, else the HTTP request (flask.Request). A parameter named `request`,
or the decorator functions_framework.http, asks for the HTTP request always; functions_framework.cloud_event for
CloudEvents only. It may be `async`. What it returns is the answer: nothing is 204, a CloudEvent is sent as one (a
Broker takes it as the reply), everything else is Flask's to render.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import flask
from cloudevents import exceptions
from cloudevents.http import CloudEvent, from_http, from_json, to_structured
from functions_framework import _function_registry

HERE = Path(__file__).resolve().parent
FUNCTION = HERE.parent / "function"
HEALTH = ("/health/liveness", "/health/readiness")
STRUCTURED = "application/cloudevents+json"
HTTP, CLOUDEVENT, EITHER = "http", "cloudevent", "either"


def load(root: Path, entry: dict[str, str]) -> Callable[[Any], Any]:
    """The user's function; ends the process with a plain word when there is none."""
    os.chdir(root)
    sys.path.insert(0, str(root))
    module = importlib.import_module(entry["module"])
    found: Callable[[Any], Any] | None = getattr(module, entry["function"], None)
    if not callable(found):
        raise SystemExit(f"{entry['module']} has no function {entry['function']}")
    return found


def mode_of(handler: Callable[[Any], Any]) -> str:
    """What the handler wants to be called with."""
    declared: str | None = _function_registry.REGISTRY_MAP.get(getattr(handler, "__name__", ""))
    if declared is not None:
        if declared not in (HTTP, CLOUDEVENT):
            raise SystemExit(f"functions of type {declared} are not supported; take an event or a request")
        return declared
    parameters = inspect.signature(handler).parameters
    try:
        inspect.signature(handler).bind(None)
    except TypeError:
        raise SystemExit(
            f"the handler must take one argument, the event or the request; it has {len(parameters)}"
        ) from None
    return HTTP if next(iter(parameters)) in ("request", "req") else EITHER


def event_of(request: Any) -> Any:
    """The CloudEvent that the request carries, None when it carries none; the content type decides."""
    structured = request.mimetype == STRUCTURED
    if not structured and "ce-specversion" not in request.headers:
        return None
    try:
        body = request.get_data()
        return from_json(body) if structured else from_http(_decoded(request.headers), body)
    except (exceptions.GenericException, ValueError) as error:
        return flask.abort(400, description=f"not a CloudEvent: {error}")


def _decoded(headers: Any) -> dict[str, str]:
    """CloudEvents in HTTP headers are percent-encoded UTF-8; the SDK leaves that to us."""
    return {
        name: unquote(value, errors="strict") if name.lower().startswith("ce-") else value
        for name, value in headers.items()
    }


def answer(result: Any) -> Any:
    """The handler's result as Flask takes it."""
    if result is None:
        return "", 204
    if isinstance(result, CloudEvent):
        headers, body = to_structured(result)
        return body, 200, headers
    return result


def dispatch(request: Any) -> Any:
    """Called by functions-framework for every request."""
    if request.path in HEALTH and request.method == "GET":
        return "ok"
    event = None if MODE == HTTP else event_of(request)
    if event is None and MODE == CLOUDEVENT:
        flask.abort(400, description="this function takes CloudEvents only")
    result = HANDLER(request if event is None else event)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    return answer(result)


if __name__ != "__main__":  # as `python knative_lambda_shim.py` it only proves that its imports work
    HANDLER = load(FUNCTION, json.loads((HERE / "runtime.json").read_text()))
    MODE = mode_of(HANDLER)
