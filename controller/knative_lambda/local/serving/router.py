"""From an HTTP request at the listener to a function: by Host, or by path. Made by server, mounted by dev.

`NAME.NAMESPACE.localhost` is the function's address, and `/fn/NAMESPACE/NAME/...` the way for programs that cannot set
a Host or resolve such names. Nothing here tells which functions exist.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Message, Receive, Scope, Send

from knative_lambda.api.meta import Key
from knative_lambda.local.serving.forwarding import Reply, Request, passed_on, problem
from knative_lambda.local.serving.serving_options import ServerOptions

PREFIX = "/fn/"
LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?P<name>{LABEL})\.(?P<namespace>{LABEL})\.localhost\.?(:[0-9]+)?")
_PATH = re.compile(rf"/fn/(?P<namespace>{LABEL})/(?P<name>{LABEL})(?P<rest>/.*)?")
_LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])\.?(:[0-9]+)?")
REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})
UPLOAD_SECONDS = 60.0
"""Within so long the body of a request must be here."""
POLITENESS = 8
"""Of a body that is too long, so many times the limit is read and thrown away, that the sender hears the answer."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
EMPTY = (204, 304)
"""Answers that have no body and no length."""

Forward = Callable[[Key, Request], Awaitable[Reply]]


class FunctionRoute(BaseRoute):
    """Matches what is meant for a function; everything else is for the routes after it."""

    def __init__(self, forward: Forward, options: ServerOptions) -> None:
        self._forward = forward
        self._options = options
        self._any_host = _LOOPBACK.fullmatch(options.host) is None and options.host != "::1"
        self._buffered = 0

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_ours = scope["type"] == "http" and (scope["path"].startswith(PREFIX) or _by_host(scope) is not None)
        return (Match.FULL if is_ours else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its body to the answer."""
        upload = _Upload(scope, receive, limit=self._options.request_bytes)
        reply = await self._answer(scope, upload)
        if not upload.complete:
            await upload.discard()
        await _write(reply, scope["method"], send, close=not upload.complete)

    async def _answer(self, scope: Scope, upload: _Upload) -> Reply:
        found = _by_host(scope) or self._by_path(scope)
        if found is None:
            return problem(HTTPStatus.NOT_FOUND, "no such function")
        if scope["method"] in REFUSED_METHODS:
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, "this method is not passed on")
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                await upload.read(self._has_room)
        except TimeoutError:
            return problem(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time")
        if upload.refusal is not None:
            return upload.refusal
        return await self._deliver(found, scope, upload.body)

    async def _deliver(self, found: tuple[Key, str], scope: Scope, body: bytes) -> Reply:
        key, target = found
        headers = passed_on((_text(name), _text(value)) for name, value in scope["headers"])
        self._buffered += len(body)
        try:
            return await self._forward(key, Request(scope["method"], target, headers, body))
        finally:
            self._buffered -= len(body)

    def _has_room(self, size: int) -> bool:
        return self._buffered + size <= self._options.buffered_bytes

    def _by_path(self, scope: Scope) -> tuple[Key, str] | None:
        """On a loopback address only under a loopback name: no web page may reach functions by a name of its own."""
        if not self._any_host and _LOOPBACK.fullmatch(_host(scope)) is None:
            return None
        path, _, query = _target(scope).partition("?")
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        rest = found["rest"] or "/"
        return Key(found["namespace"], found["name"]), f"{rest}?{query}" if query else rest


class _Upload:
    """The body of a request, as far as it is wanted."""

    def __init__(self, scope: Scope, receive: Receive, *, limit: int) -> None:
        self.body = b""
        self.complete = False
        self.refusal: Reply | None = None
        self._receive = receive
        self._limit = limit
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"")
        self._announced = int(announced) if announced.isdigit() else 0
        self._asks_first = b"expect" in headers

    async def read(self, has_room: Callable[[int], bool]) -> None:
        """Sets `body`, or `refusal` when there is more than the limit or no room for it."""
        parts: list[bytes] = []
        size = 0
        while not self._too_much(max(size, self._announced), has_room):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.complete = True
                self.refusal = problem(HTTPStatus.BAD_REQUEST, "the sender went away")
                return
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if not message.get("more_body", False):
                self.complete = True
                self._too_much(size, has_room)
                self.body = b"".join(parts)
                return

    def _too_much(self, size: int, has_room: Callable[[int], bool]) -> bool:
        if size >= self._limit:
            self.refusal = problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has less than {self._limit} bytes here"
            )
        elif not has_room(size):
            self.refusal = problem(HTTPStatus.SERVICE_UNAVAILABLE, "too much is being sent at once", retry_after=1)
        return self.refusal is not None

    async def discard(self) -> None:
        """Reads on for a while: a sender that is cut off does not hear why. One that asks first has not begun."""
        if self._asks_first:
            return
        left = self._limit * POLITENESS
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                while left > 0:
                    message: Message = await self._receive()
                    left -= len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


async def _write(reply: Reply, method: str, send: Send, *, close: bool) -> None:
    """The listener writes the date itself, and a second one would be wrong."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    headers = [(name, value.strip()) for name, value in headers if name != b"date" and _is_valid(name, value)]
    if reply.status not in EMPTY and method != "HEAD":
        headers.append((b"content-length", str(len(reply.body)).encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if reply.status in EMPTY else reply.body})


def _is_valid(name: bytes, value: bytes) -> bool:
    return _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


def _by_host(scope: Scope) -> tuple[Key, str] | None:
    found = _HOST.fullmatch(_host(scope))
    target = _target(scope)
    if found is None or not target.startswith("/"):
        return None
    return Key(found["namespace"], found["name"]), target


def _host(scope: Scope) -> str:
    return next((_text(value).lower() for name, value in scope["headers"] if name == b"host"), "")


def _target(scope: Scope) -> str:
    """As it came: what is percent-encoded stays so."""
    path, query = scope["raw_path"].decode("latin-1").partition("?")[0], scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _text(raw: bytes) -> str:
    """aiohttp writes UTF-8; what is not has no better reading than Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
