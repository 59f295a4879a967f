"""Which requests go to which function, without a network."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.local.serving.forwarding import Reply, Request, as_mapping, passed_on
from knative_lambda.local.serving.router import FunctionRoute
from knative_lambda.local.serving.serving_options import ServerOptions

pytestmark = pytest.mark.unit

SMALL = ServerOptions(request_bytes=100, buffered_bytes=150)


class Line:
    """A listener's side of one request."""

    def __init__(self, options: ServerOptions = SMALL) -> None:
        self.asked: list[tuple[Key, Request]] = []
        self.reply = Reply(200, [("x-a", "1"), ("bad name", "x"), ("x-bad", "a\nb")], b"ok")
        self.received = 0
        self.route = FunctionRoute(self._forward, options)

    async def _forward(self, key: Key, request: Request) -> Reply:
        self.asked.append((key, request))
        return self.reply

    async def ask(
        self, target: str, host: str, *, method: str = "GET", parts: tuple[bytes, ...] = (b"",), **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        scope = self.scope(target, host, method=method, **headers)
        waiting, sent = list(parts), []

        async def receive() -> dict[str, Any]:
            self.received += 1
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.route.handle(scope, receive, send)
        start, body = sent
        return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body["body"]

    @staticmethod
    def scope(target: str, host: str, *, method: str = "GET", **headers: str) -> dict[str, Any]:
        path, _, query = target.partition("?")
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(b"host", host.encode()), *given],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "host", "key", "passed"),
    [
        ("/", "fn.ns.localhost", Key("ns", "fn"), "/"),
        ("/a/b?c=d", "fn.ns.localhost:8080", Key("ns", "fn"), "/a/b?c=d"),
        ("/", "FN.ns.LocalHost.", Key("ns", "fn"), "/"),
        ("/fn/other/name", "fn.ns.localhost", Key("ns", "fn"), "/fn/other/name"),
        ("/a%2Fb//c", "fn.ns.localhost", Key("ns", "fn"), "/a%2Fb//c"),
        ("/fn/ns/fn", "localhost:8080", Key("ns", "fn"), "/"),
        ("/fn/ns/fn/", "127.0.0.1", Key("ns", "fn"), "/"),
        ("/fn/ns/fn/x%20y?q", "[::1]:8080", Key("ns", "fn"), "/x%20y?q"),
    ],
)
async def test_host_and_path_name_the_function(target: str, host: str, key: Key, passed: str) -> None:
    line = Line()
    assert (await line.ask(target, host))[0] == 200
    assert [(asked, request.target) for asked, request in line.asked] == [(key, passed)]


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/fn/ns/fn", "rebound.example.com"), ("/fn/ns/fn", ""), ("/fn/ns", "localhost"), ("/fn/NS/fn", "localhost"),
        ("/fn/ns/../fn", "localhost"), ("/fn/ns/fn\n", "localhost"), ("http://x/", "fn.ns.localhost"),
    ],
)  # fmt: skip
async def test_what_names_no_function_is_not_found(target: str, host: str) -> None:
    line = Line()
    assert (await line.ask(target, host))[0] == 404
    assert line.asked == []


def test_other_requests_are_left_to_other_routes() -> None:
    line = Line()
    for target, host in (("/", "localhost"), ("/broker/ns/default", "localhost"), ("/", "a.b.c.localhost")):
        assert line.route.matches(line.scope(target, host))[0].value == 0
    assert line.route.matches({"type": "websocket", "path": "/fn/a/b"})[0].value == 0


async def test_a_listener_for_the_world_takes_any_host_by_path() -> None:
    line = Line(ServerOptions(host="0.0.0.0"))
    assert (await line.ask("/fn/ns/fn", "laptop.lan:8080"))[0] == 200


async def test_headers_of_an_answer_are_whole_or_left_out() -> None:
    line = Line()
    status, headers, body = await line.ask("/", "fn.ns.localhost")
    assert (status, headers, body) == (200, {"x-a": "1", "content-length": "2"}, b"ok")
    line.reply = Reply(204, [], b"not allowed here")
    assert await line.ask("/", "fn.ns.localhost") == (204, {}, b"")


@pytest.mark.parametrize("parts", [(b"x" * 100,), (b"x" * 60, b"y" * 60, b"z"), (b"x" * 100, b"y" * 10_000)])
async def test_a_long_body_is_refused_and_read_on_for_a_while(parts: tuple[bytes, ...]) -> None:
    line = Line()
    status, _, _ = await line.ask("/", "fn.ns.localhost", method="POST", parts=parts)
    assert (status, line.asked) == (413, [])
    assert line.received == len(parts)


async def test_a_sender_that_asks_first_is_told_before_it_sends() -> None:
    line = Line()
    headers = {"content_length": "100", "expect": "100-continue"}
    status, answered, _ = await line.ask("/", "fn.ns.localhost", method="POST", **headers)
    assert (status, answered["connection"], line.received) == (413, "close", 0)


async def test_methods_that_tunnel_or_reflect_are_refused() -> None:
    line = Line()
    assert (await line.ask("/", "fn.ns.localhost", method="TRACE"))[0] == 405
    assert line.asked == []


def test_what_belongs_to_one_connection_is_not_passed_on() -> None:
    headers = [
        ("Connection", "keep-alive, X-Hop"), ("x-hop", "1"), ("Keep-Alive", "5"), ("TE", "trailers"),
        ("Upgrade", "h2c"), ("Transfer-Encoding", "chunked"), ("Content-Length", "5"), ("Expect", "100-continue"),
        ("X-Kept", "a"), ("x-kept", "b"), ("Proxy-Authorization", "x"), ("traceparent", "00"),
    ]  # fmt: skip
    kept = passed_on(headers)
    assert kept == [("x-kept", "a"), ("x-kept", "b"), ("traceparent", "00")]
    assert as_mapping(kept) == {"x-kept": "a, b", "traceparent": "00"}
