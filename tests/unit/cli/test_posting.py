"""invoke's request and reply against a small server: hosts, limits, timing, what cannot be reached."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from knative_lambda.cli import posting
from knative_lambda.cli.failures import Fault
from knative_lambda.cli.posting import Reply, Request


class Function:
    """Answers with `body`, and keeps what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.body, self.status, self.headers = b"hello", 200, {"content-type": "text/plain"}
        self.port = 0

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((request.method, headers, await request.read()))
        return web.Response(body=self.body, status=self.status, headers=self.headers)


@asynccontextmanager
async def served() -> AsyncIterator[Function]:
    function = Function()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", function.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    function.port = runner.addresses[0][1]
    try:
        yield function
    finally:
        await runner.cleanup()


async def send(
    url: str, *, seconds: float = 5, limit: int = posting.REPLY_LIMIT, **request: object
) -> tuple[Reply, bytes]:
    asked = {"method": "POST", "headers": {}, "body": b"", **request}
    taken = bytearray()
    reply = await posting.send(Request(url, **asked), seconds=seconds, take=taken.extend, limit=limit)  # type: ignore[arg-type]
    return reply, bytes(taken)


@pytest.mark.parametrize("host", ["hello.shop.localhost", "HELLO.shop.LocalHost", "localhost", "127.0.0.1"])
async def test_local_hosts_are_dialled_on_this_machine_under_their_own_name(host: str) -> None:
    async with served() as function:
        reply, body = await send(f"http://{host}:{function.port}", body=b"x", headers={"content-type": "text/plain"})
        ((method, headers, got),) = function.got
    assert (reply.status, reply.reason, reply.content_type, body) == (200, "OK", "text/plain", b"hello")
    assert (method, headers["host"].lower(), got) == ("POST", f"{host.lower()}:{function.port}", b"x")
    assert 0 < reply.first_seconds <= reply.seconds


async def test_a_huge_reply_is_cut_and_says_so() -> None:
    async with served() as function:
        function.body = b"x" * 300_000
        reply, body = await send(f"http://127.0.0.1:{function.port}", limit=100_000)
        assert (len(body), reply.size, reply.cut) == (100_000, 100_000, True)
        reply, body = await send(f"http://127.0.0.1:{function.port}", limit=300_000)
        assert (len(body), reply.size, reply.cut) == (300_000, 300_000, False)


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with served() as function:
        function.status, function.headers = 302, {"location": "http://169.254.169.254/"}
        reply, _ = await send(f"http://127.0.0.1:{function.port}")
    assert (reply.status, reply.headers["location"]) == (302, "http://169.254.169.254/")


async def test_what_does_not_answer_in_time_says_how_to_wait_longer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(Fault, match=r"did not answer within 0.2 s; --timeout SECONDS waits longer"):
            await send(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.2)


async def test_what_is_not_there_is_told_with_its_address() -> None:
    with pytest.raises(Fault, match=r"http://hello.shop.localhost:1 cannot be reached: Connection refused"):
        await send("http://hello.shop.localhost:1")
    with pytest.raises(Fault, match="its host name is not known here; it is an address inside the cluster"):
        await send("http://hello.shop.svc.cluster.local.invalid")
    with pytest.raises(Fault, match="cannot be reached"):
        await send("not a url")


async def test_what_speaks_no_http_is_told_without_its_bytes() -> None:
    async def greet(_: object, writer: object) -> None:
        writer.write(b"220 \x1b[2J mail\r\n")  # type: ignore[attr-defined]
        writer.close()  # type: ignore[attr-defined]

    import asyncio

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Fault, match="does not speak HTTP"):
            await send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


# ---- what is sent ----


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a": 1}', "application/json"),
        (b"3", "application/json"),
        (b"hello", "text/plain; charset=utf-8"),
        ("über".encode(), "text/plain; charset=utf-8"),
        (b"\xff\xd8\xff", "application/octet-stream"),
        (b"[" * 100_000, "text/plain; charset=utf-8"),
    ],
)
def test_the_content_type_is_what_the_data_looks_like(body: bytes, kind: str) -> None:
    assert posting.content_type(body) == kind


def test_an_event_goes_out_in_binary_mode() -> None:
    headers = posting.event_headers(b"{}", type="order", source="", subject="ü", id="", content_type="application/json")
    assert (headers["ce-type"], headers["ce-source"], headers["ce-subject"]) == ("order", "/kn-lambda/invoke", "%C3%BC")
    assert headers["content-type"] == "application/json"
    assert len(headers["ce-id"]) == 36
    assert headers["ce-time"].endswith("Z")


def test_headers_are_names_and_values() -> None:
    assert posting.headers(["X-A: 1", "content-type:text/plain", "X-Empty:"]) == {
        "x-a": "1",
        "content-type": "text/plain",
        "x-empty": "",
    }


@pytest.mark.parametrize("wrong", ["x", ": y", "a b: c", "x: a\r\nhost: b", "x: ü", "é: 1"])
def test_what_is_no_header_is_refused(wrong: str) -> None:
    with pytest.raises(Fault, match="write 'Name: value'"):
        posting.headers([wrong])


def test_a_refused_header_does_not_show_its_secret() -> None:
    with pytest.raises(Fault) as caught:
        posting.headers(["Authorization: Bearer hunter2\nx"])
    assert "hunter2" not in str(caught.value)
