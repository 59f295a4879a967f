"""One request from us to an instance, and its answer back. Called through server, by router and by the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import structlog

from knative_lambda.local.serving import upstream
from knative_lambda.local.serving.answers import Broken
from knative_lambda.local.serving.instance import Instance
from knative_lambda.local.serving.pool import Moved, Pool, Refused
from knative_lambda.local.serving.serving_options import ServerOptions
from knative_lambda.local.serving.upstream import Lost, NotTaken, Upstream

Headers = Sequence[tuple[str, str]]

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip
OURS = frozenset({"content-length", "expect"})
"""Made anew on each way."""
DYING_SECONDS = 0.25
ATTEMPTS = 3
"""Instances that a request is offered to when they end before they take it, or revisions when they are replaced."""
ANSWERS = range(200, 600)

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


class Forwarder:
    """Finds an instance for each request. Made and closed by server, in one event loop."""

    def __init__(self, options: ServerOptions) -> None:
        self._upstream = Upstream(answer_bytes=options.answer_bytes)

    def close(self) -> None:
        self._upstream.close()

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
        except NotTaken:
            gone = True
            return None
        except (Lost, Broken) as error:
            reason = str(error) or "it ended the connection"
            log.info("no answer from a function", instance=instance.place.name, reason=reason)
            gone = isinstance(error, Lost) and await _ends(instance)
            return problem(HTTPStatus.BAD_GATEWAY, "the function gave no valid answer")
        finally:
            pool.give_back(instance, suspect=suspect, gone=gone)

    async def _send(self, port: int, request: Request) -> Reply:
        message = upstream.head(request.method, request.target, request.headers, length=len(request.body))
        to_head = request.method == "HEAD"
        raw = await self._upstream.send(port, message, request.body, to_head=to_head)
        if raw.status not in ANSWERS:
            raise Broken(f"status {raw.status}")
        return Reply(raw.status, _kept(raw.headers, to_head=to_head), raw.body)


async def _ends(instance: Instance) -> bool:
    """Whether the process ended its connection because it ends: the next request shall not find it."""
    try:
        await asyncio.wait_for(instance.child.wait(), DYING_SECONDS)
    except TimeoutError:
        return False
    return True


def _kept(headers: Headers, *, to_head: bool) -> Headers:
    """The length of an answer to HEAD is that of the body which is not sent."""
    kept = passed_on(headers)
    if to_head:
        kept += [(name, value) for name, value in headers if name == "content-length"]
    return kept


def as_mapping(headers: Headers) -> Mapping[str, str]:
    """Repeated headers joined by commas, which HTTP allows for all that matter to a broker."""
    merged: dict[str, str] = {}
    for name, value in headers:
        merged[name] = f"{merged[name]}, {value}" if name in merged else value
    return merged
