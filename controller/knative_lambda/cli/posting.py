"""One HTTP request to a function, and its reply as it comes. Called by `kn-lambda invoke`."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from knative_lambda.cli.failures import Fault
from knative_lambda.cli.output import printable
from knative_lambda.events import encoding
from knative_lambda.events.encoding import InvalidEvent
from knative_lambda.kit import redact

REPLY_LIMIT = 64 * 1024 * 1024
"""Bytes of a reply that are read."""
EVENT_LIMIT = 64 * 1024 * 1024
LOOPBACK = "127.0.0.1"
SOURCE = "/kn-lambda/invoke"
"""CloudEvent source of events whose sender names none."""

_CHUNK = 64 * 1024
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent."""

    url: str
    method: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Reply:
    """What came back, without its body."""

    status: int
    reason: str
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0
    cut: bool = False
    """The body was longer than the limit, and only its beginning was taken."""
    first_seconds: float = 0.0
    """Until the headers came: a cold start is in it."""
    seconds: float = 0.0
    """Until the last byte."""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


class Loopback(AbstractResolver):
    """`*.localhost` is this machine (RFC 6761), which not every resolver knows; other names are looked up as ever."""

    def __init__(self) -> None:
        self._others = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host.rstrip(".").lower().endswith(".localhost"):
            numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            return [
                ResolveResult(hostname=host, host=LOOPBACK, port=port, family=socket.AF_INET, proto=0, flags=numeric)
            ]
        return await self._others.resolve(host, port, family)

    async def close(self) -> None:
        await self._others.close()


async def send(request: Request, *, seconds: float, take: Callable[[bytes], None], limit: int = REPLY_LIMIT) -> Reply:
    """Hands the body to `take` as it comes. `seconds`: for all of it. Raises Fault when there is no reply."""
    started = time.monotonic()
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=Loopback()),
                timeout=aiohttp.ClientTimeout(total=seconds),
                headers={"user-agent": "kn-lambda"},
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.request(
                request.method, request.url, data=request.body, headers=dict(request.headers), allow_redirects=False
            ) as answer,
        ):
            headers = {name.lower(): value for name, value in answer.headers.items()}
            reply = Reply(answer.status, answer.reason or "", headers, first_seconds=time.monotonic() - started)
            await _read(answer, reply, take, limit)
    except TimeoutError as error:
        raise Fault(f"{request.url} did not answer within {seconds:g} s; --timeout SECONDS waits longer") from error
    except aiohttp.ClientResponseError as error:
        raise Fault(f"{request.url} does not speak HTTP") from error
    except aiohttp.ClientPayloadError as error:
        raise Fault(f"the reply of {request.url} broke off") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise Fault(_unknown_host(request.url)) from error
    except (aiohttp.ClientError, ValueError, OSError) as error:
        raise Fault(f"{request.url} cannot be reached: {_words(error)}") from error
    reply.seconds = time.monotonic() - started
    return reply


def _words(error: Exception) -> str:
    """The system's words where it has some: asyncio's and aiohttp's own repeat the address in tuples."""
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return redact.text(str(error) or type(error).__name__)


def _unknown_host(url: str) -> str:
    inside = ".svc.cluster.local" in url
    hint = "; it is an address inside the cluster: ask from there, or give the cluster a domain" if inside else ""
    return f"{url} cannot be reached: its host name is not known here{hint}"


async def _read(answer: aiohttp.ClientResponse, reply: Reply, take: Callable[[bytes], None], limit: int) -> None:
    async for chunk in answer.content.iter_chunked(_CHUNK):
        rest = limit - reply.size
        take(chunk[:rest])
        reply.size += min(len(chunk), rest)
        if len(chunk) > rest:
            reply.cut = True
            answer.close()
            return


def headers(given: list[str]) -> dict[str, str]:
    """`Name: value` each, names in small letters. Raises Fault."""
    found: dict[str, str] = {}
    for one in given:
        name, colon, value = one.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or not name or not _TOKEN.issuperset(name) or not value.isprintable() or not value.isascii():
            raise Fault(f"--header {printable(redact.text(one))}: write 'Name: value', in ASCII")
        found[name] = value
    return found


def content_type(body: bytes) -> str:
    """What the data looks like: JSON, else text, else bytes."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "text/plain; charset=utf-8"
    return "application/json"


def event_headers(body: bytes, *, type: str, source: str, subject: str, id: str, content_type: str) -> dict[str, str]:
    """A CloudEvent in binary mode. Raises Fault when it would be none."""
    attributes = {
        "specversion": encoding.SPEC_VERSION,
        "id": id or str(uuid.uuid4()),
        "source": source or SOURCE,
        "type": type,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **({"subject": subject} if subject else {}),
    }
    made = encoding.binary_headers(encoding.Message(attributes, content_type, body))
    try:
        encoding.unfold(body, made, limit=EVENT_LIMIT)
    except InvalidEvent as error:
        raise Fault(f"this is no CloudEvent: {error}") from error
    return made
