"""One HTTP connection pool to an API server: timeouts, rate limit, circuit breaker, repetitions, credentials.

Called by kube, which knows paths and objects; here are only bytes. aiohttp is used directly because the client
library's own `call_api` serialises bodies with the slow JSON encoder and copies every header.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, NamedTuple, Protocol, TypeVar

import aiohttp
from yarl import URL

from knative_lambda import __version__
from knative_lambda.api.kinds import LEASE
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster import errors
from knative_lambda.cluster.base import ClusterError, Timeout, TooManyRequests, Unavailable, WriteFenced
from knative_lambda.cluster.breaker import Breaker
from knative_lambda.cluster.counts import WRITES, RequestCounts
from knative_lambda.cluster.limits import TokenBucket
from knative_lambda.cluster.stream import LineSplitter
from knative_lambda.kit import redact
from knative_lambda.kit.clock import Clock

T = TypeVar("T")

USER_AGENT = f"knative-lambda/{__version__}"
_KEEPALIVE_SECONDS = 60.0
_READ_BUFFER = 256 * 1024


class Credentials(Protocol):
    """Where the Authorization header comes from."""

    def header(self) -> str:
        """Its present value, empty for none. Called before every request, so it must be cheap."""
        ...

    async def renew(self, rejected: str, /) -> bool:
        """Called after a 401 for that value: fetches another; False when there is none to be had."""
        ...


class StaticCredentials:
    """One header for ever: tests, and clusters without authentication."""

    def __init__(self, header: str = "") -> None:
        self._header = header

    def header(self) -> str:
        return self._header

    async def renew(self, _rejected: str, /) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API server: where it is and how to speak to it. Made by kube.connect from a kubeconfig or a Pod's mount."""

    url: str
    """Scheme, host and port, without a trailing slash."""
    credentials: Credentials
    tls: SSLContext | None = None
    server_name: str | None = None
    """Name in the certificate when it is not the host of the url."""
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """Limits of the client; times in seconds, sizes in bytes."""

    qps: float = 400.0
    """Requests per second, Leases and running watches apart; 0 or inf for no limit."""
    burst: int = 100
    timeout: float = 10.0
    """One request from connecting to the last byte, and also the time within which it may be repeated."""
    connect_timeout: float = 5.0
    watch_idle: float = 90.0
    """A watch that says nothing for so long is broken: the server sends a bookmark about every minute."""
    connections: int = 100
    """Requests under way at once, Leases and watches apart."""
    breaker_failures: int = 5
    breaker_seconds: float = 60.0
    repetitions: int = 2
    """How often one request is sent again when the server asked for patience."""
    max_body: int = 512 * 1024 * 1024
    max_line: int = 16 * 1024 * 1024


class Call(NamedTuple):
    """One request. `target` is path and query, already quoted. (A tuple is made in a third of a dataclass's time.)"""

    verb: str
    kind: Kind
    key: Key | None
    method: str
    target: str
    body: bytes | None = None
    content_type: str = ""
    may_be_quiet: bool = False
    """A stream that says nothing for hours is in order."""

    @property
    def urgent(self) -> bool:
        """Leases wait for nothing: who cannot renew one stops being the leader."""
        return self.kind == LEASE

    @property
    def what(self) -> str:
        """Its name in errors."""
        return f"{self.verb} {self.kind} {self.key}" if self.key else f"{self.verb} {self.kind}"


def write_always(_: Kind) -> None:
    """The `before_write` of a process that needs no leader; a real one raises WriteFenced."""


class Transport:
    """Sends Calls to one Endpoint. Raises ClusterError only."""

    def __init__(
        self, endpoint: Endpoint, *, clock: Clock, tuning: Tuning, before_write: Callable[[Kind], None] = write_always
    ) -> None:
        self.counts = RequestCounts()
        self.breaker = Breaker(failures=tuning.breaker_failures, seconds=tuning.breaker_seconds, clock=clock)
        self._endpoint = endpoint
        self._clock = clock
        self._tuning = tuning
        self._before_write = before_write
        self._bucket = TokenBucket(rate=tuning.qps, burst=tuning.burst, clock=clock)
        self._slots = asyncio.Semaphore(tuning.connections)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._watching: set[aiohttp.ClientResponse] = set()
        self._timeout = aiohttp.ClientTimeout(total=tuning.timeout, sock_connect=tuning.connect_timeout)
        self._watch_timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=tuning.connect_timeout, sock_read=tuning.watch_idle
        )
        self._log_timeout = aiohttp.ClientTimeout(total=None, sock_connect=tuning.connect_timeout)
        self._options: dict[str, Any] = {"allow_redirects": False}  # a redirect would carry the token elsewhere
        if endpoint.server_name:
            self._options["server_hostname"] = endpoint.server_name
        if endpoint.proxy:
            self._options["proxy"] = endpoint.proxy

    async def send(self, call: Call) -> bytes:
        """The body of a 2xx answer. Repeats what the server surely did not do, within the time of one call."""
        started = self._clock.monotonic()
        for attempt in range(self._tuning.repetitions + 1):
            try:
                return await self._admitted(self._exchange, call)
            except ClusterError as error:
                wait = await self._patience(call, error, last=attempt == self._tuning.repetitions)
                if wait is None or self._clock.monotonic() - started + wait > self._tuning.timeout:
                    raise
            await self._clock.sleep(wait)
        raise AssertionError("the last repetition raises")

    async def lines(self, call: Call) -> AsyncIterator[bytes]:
        """The lines of a watch until the server ends it or `close` is called; Unavailable when it breaks."""
        splitter = LineSplitter(limit=self._tuning.max_line)
        async with aclosing(self.chunks(call)) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    yield line
        if splitter.pending and not self._closed:
            raise Unavailable(f"{call.what}: the stream ended inside a line")

    async def chunks(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The bytes of a stream as they come, with the same ends as `lines`."""
        response = await self._admitted(self._open, call)
        self._watching.add(response)
        try:
            async for chunk in self._chunks(call, response):
                yield chunk
        finally:
            self._watching.discard(response)
            response.close()

    async def close(self) -> None:
        self._closed = True
        for response in self._watching:  # closing the session takes the connection from under a reader, unheard
            response.content.set_exception(aiohttp.ClientConnectionError("closed"))
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # the connector closes its sockets in the next turn of the loop

    async def _patience(self, call: Call, error: ClusterError, *, last: bool) -> float | None:
        """Seconds until this call may be sent again, None when it must not be."""
        if last:
            return None
        if isinstance(error, errors.Unauthorized):
            return 0.0 if await self._endpoint.credentials.renew(error.rejected) else None
        refused = isinstance(error, TooManyRequests)
        postponed = isinstance(error, Unavailable) and call.method == "GET"
        if error.retry_after is None or not (refused or postponed):
            return None
        return error.retry_after * (1 + random.random() / 4)  # noqa: S311 - spreads those who were all told the same

    async def _admitted(self, work: Callable[[Call], Awaitable[T]], call: Call) -> T:
        """Rate limit, a free slot and the breaker, which is asked first (to fail at once) and last (after waiting)."""
        if call.urgent:
            return await work(call)
        self.breaker.check()
        await self._bucket.take()
        async with self._slots:
            with _watched(self.breaker):
                return await work(call)

    async def _exchange(self, call: Call) -> bytes:
        with _as_cluster_errors(call):
            async with await self._request(call, self._timeout) as response:
                if 200 <= response.status < 300:
                    return await self._read(response)
                raise await self._error(call, response)

    async def _open(self, call: Call) -> aiohttp.ClientResponse:
        """A watch whose headers have come; from then on it holds no slot, no token and no breaker."""
        with _as_cluster_errors(call):
            async with asyncio.timeout(self._tuning.timeout):
                response = await self._request(call, self._log_timeout if call.may_be_quiet else self._watch_timeout)
                if response.status == 200:
                    return response
                async with response:
                    raise await self._error(call, response)

    async def _chunks(self, call: Call, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        while True:
            try:
                with _as_cluster_errors(call):
                    chunk = await response.content.readany()
            except Unavailable:
                if self._closed:
                    return
                raise
            if not chunk:
                return
            yield chunk

    async def _error(self, call: Call, response: aiohttp.ClientResponse) -> ClusterError:
        after = errors.retry_after_seconds(response.headers.get("Retry-After"))
        body = await self._read(response)
        error = errors.from_answer(response.status, body, what=call.what, retry_after=after)
        if isinstance(error, errors.Unauthorized):
            error.rejected = response.request_info.headers.get("Authorization", "")
        return error

    async def _request(self, call: Call, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        headers = {}
        if authorization := self._endpoint.credentials.header():
            headers["Authorization"] = authorization
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        if call.verb in WRITES and not call.urgent:
            self._before_write(call.kind)
        self.counts.add(call.verb, call.kind)
        url = URL(self._endpoint.url + call.target, encoded=True)
        return await self._pool().request(
            call.method, url, data=call.body, headers=headers, timeout=limits, **self._options
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body, at most max_body bytes of it."""
        parts: list[bytes] = []
        size = 0
        while chunk := await response.content.readany():
            size += len(chunk)
            if size > self._tuning.max_body:
                raise Unavailable(f"the API server answered with more than {self._tuning.max_body} bytes")
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pool(self) -> aiohttp.ClientSession:
        """The session, made on first use because it belongs to a running loop."""
        if self._closed:
            raise Unavailable("the connection to the API server was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # `_slots` limits, and lets Leases and watches pass
                    ssl=self._endpoint.tls or True,
                    keepalive_timeout=_KEEPALIVE_SECONDS,
                ),
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",  # a server would spend more CPU on gzip than a near network saves
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                read_bufsize=_READ_BUFFER,
            )
        return self._session


class _watched:  # noqa: N801 - used as a keyword: `with _watched(breaker)`
    """Tells the breaker how the block ended."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._entered = 0.0

    def __enter__(self) -> None:
        self._entered = self._breaker.enter()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, (Unavailable, TimeoutError, OSError, aiohttp.ClientError)):
            self._breaker.failed(self._entered)
        elif error is None or (isinstance(error, ClusterError) and not isinstance(error, WriteFenced)):
            self._breaker.succeeded()
        else:
            self._breaker.abandoned()


class _as_cluster_errors:  # noqa: N801 - used as a keyword, like _watched
    """Turns what aiohttp and sockets raise into Timeout and Unavailable."""

    def __init__(self, call: Call) -> None:
        self._what = call.what

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, TimeoutError):
            raise Timeout(f"{self._what}: no answer in time") from error
        if isinstance(error, (aiohttp.ClientError, OSError, RuntimeError)):  # RuntimeError: it went between two reads
            raise Unavailable(f"{self._what}: {redact.text(str(error) or type(error).__name__)}") from error
