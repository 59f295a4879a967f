"""One request from us to an instance, and its answer back. Called through server, by router and by the broker."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import structlog
from multidict import CIMultiDict
from yarl import URL

from knative_lambda.local.instance import Instance
from knative_lambda.local.pool import Moved, Pool, Refused
from knative_lambda.local.serving_options import ServerOptions

Headers = Sequence[tuple[str, str]]

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip
OURS = frozenset({"content-length", "expect"})
"""Made anew on each way."""
ATTEMPTS = 3
"""Instances that a request is offered to when they end before they take it, or revisions when they are replaced."""
IDLE_SECONDS = 1.0
"""Shorter than any function server keeps an idle connection: who closes first must be we, or a request is lost."""
ANSWERS = range(200, 600)
PIECE = 1 << 20

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a function is asked."""

    method: str
    target: str
    """Path and query as they came, percent-encoded; begins with a slash."""
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What a function, or this server in its place, answers. Names of headers in small letters, repeated ones kept."""

    status: int
    headers: Headers
    body: bytes


def problem(status: HTTPStatus, words: str, *, retry_after: int = 0) -> Reply:
    """Our own answer; `words` tell nothing of other functions."""
    headers = [("content-type", "text/plain; charset=utf-8")]
    if retry_after:
        headers.append(("retry-after", str(retry_after)))
    return Reply(status.value, headers, f"{words}\n".encode())


def passed_on(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without what belongs to one connection only, also what its Connection header names. Names in small letters."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {one.strip().lower() for name, value in lowered if name == "connection" for one in value.split(",")}
    dropped = HOP_BY_HOP | OURS | named
    return [(name, value) for name, value in lowered if name not in dropped]


class _NotTaken(Exception):
    """There was no connection: the request cannot have been seen."""


class _Lost(Exception):
    """The connection ended before the answer came; the request may have been carried out."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keeps aiohttp from sending a request twice: what a function did before it died, it may not do again."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError as error:
        raise _NotTaken from error
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Lost from error


class Forwarder:
    """The HTTP client. Opened and closed by server, in one event loop."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def forward(self, find: Callable[[], Pool | None], request: Request) -> Reply:
        """`find` gives the revision that serves now. Raises nothing of its own: what goes wrong is an answer."""
        for _ in range(ATTEMPTS):
            pool = find()
            if pool is None:
                return problem(HTTPStatus.NOT_FOUND, "no such function")
            try:
                instance = await pool.lease()
            except Moved:
                continue
            except Refused as refusal:
                return problem(HTTPStatus.SERVICE_UNAVAILABLE, refusal.words, retry_after=refusal.retry_after)
            reply = await self._offer(pool, instance, request)
            if reply is not None:
                return reply
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the function is being replaced", retry_after=1)

    async def _offer(self, pool: Pool, instance: Instance, request: Request) -> Reply | None:
        """None when the instance cannot have seen the request."""
        suspect = gone = False
        try:
            async with asyncio.timeout(pool.revision.template.timeout):
                return await self._send(instance.place.port, request)
        except TimeoutError:
            suspect = True
            return problem(HTTPStatus.GATEWAY_TIMEOUT, "the function did not answer in time")
        except _NotTaken:
            gone = True
            return None
        except (_Lost, aiohttp.ClientError, OSError, ValueError) as error:
            log.info("no answer from a function", instance=instance.place.name, error=type(error).__name__)
            return problem(HTTPStatus.BAD_GATEWAY, "the function gave no valid answer")
        finally:
            pool.give_back(instance, suspect=suspect, gone=gone)

    async def _send(self, port: int, request: Request) -> Reply:
        session = self._session or self._open()
        url = URL(f"http://127.0.0.1:{port}{request.target}", encoded=True)
        async with session.request(
            request.method,
            url,
            headers=CIMultiDict(request.headers),
            data=_payload(request.body),
            allow_redirects=False,
        ) as answer:
            if answer.status not in ANSWERS:
                raise ValueError(f"status {answer.status}")
            body = await self._body(answer)
            return Reply(answer.status, _decoded(answer.raw_headers, answer.method), body)

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        limit, parts, size = self._options.answer_bytes, [], 0
        async for part in answer.content.iter_any():
            size += len(part)
            if size > limit:
                answer.close()
                raise ValueError(f"an answer of more than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    def _open(self) -> aiohttp.ClientSession:
        """Adds nothing to a request and takes nothing from an answer."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
            middlewares=(_once,),
            auto_decompress=False,
            trust_env=False,
        )
        return self._session


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """A long one goes out piece by piece."""
    if len(body) > PIECE:
        return io.BytesIO(body)
    return body or None


def _decoded(raw: Iterable[tuple[bytes, bytes]], method: str) -> Headers:
    """The length of an answer to HEAD is that of the body which is not sent."""
    given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
    kept = passed_on(given)
    if method == "HEAD":
        kept += [(name.lower(), value) for name, value in given if name.lower() == "content-length"]
    return kept


def as_mapping(headers: Headers) -> Mapping[str, str]:
    """Repeated headers joined by commas, which HTTP allows for all that matter to a broker."""
    merged: dict[str, str] = {}
    for name, value in headers:
        merged[name] = f"{merged[name]}, {value}" if name in merged else value
    return merged
