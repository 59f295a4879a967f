"""One suite for the adapters of registry.base.Registry, and what only a server can show of the HTTP one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import pytest
from aiohttp import web

from knative_lambda.registry.base import Login, Reference, Registry, RegistryError
from knative_lambda.registry.http import HttpRegistry
from knative_lambda.registry.memory import MemoryRegistry

pytestmark = pytest.mark.contract

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
ME = Login("me", "secret-word")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A tiny registry: manifests by repository and tag, a challenge if asked, a fault if asked."""

    def __init__(self) -> None:
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.says_digest = True
        self.challenge = ""
        self.accepts: set[str] = set()
        self.fault: Handler | None = None
        self.asked: list[tuple[str, str, str]] = []
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        self.asked.append((request.method, request.path, authorization))
        if self.fault is not None:
            return await self.fault(request)
        if self.challenge and authorization not in self.accepts:
            return web.Response(status=401, headers={"WWW-Authenticate": self.challenge})
        content = self.manifests.get((request.match_info["repository"], request.match_info["version"]))
        if content is None:
            return web.Response(status=404)
        headers = {"Docker-Content-Digest": DIGEST} if self.says_digest else {}
        return web.Response(body=content, headers=headers)

    async def token(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs, request.headers.get("Authorization", "")))
        return web.json_response({"token": "t0k3n"})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/v2/{repository:.+}/manifests/{version}", server.manifest)
    app.router.add_get("/token", server.token)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


def anywhere(_: str) -> str:
    return ""


@pytest.fixture
async def registry() -> AsyncIterator[HttpRegistry]:
    registry = HttpRegistry(anywhere, seconds=2)
    yield registry
    await registry.close()


def image(server: Server, version: str = "abc") -> Reference:
    return Reference(server.host, "tenant/hello", version)


class Place(Protocol):
    """A registry and the way to push to it."""

    registry: Registry

    def push(self, image: Reference) -> None: ...
    def image(self, version: str) -> Reference: ...
    def fail(self) -> None: ...


class MemoryPlace:
    def __init__(self) -> None:
        self._memory = MemoryRegistry()
        self.registry: Registry = self._memory

    def push(self, image: Reference) -> None:
        self._memory.push(image, DIGEST)

    def image(self, version: str) -> Reference:
        return Reference("registry.example.com", "tenant/hello", version)

    def fail(self) -> None:
        self._memory.fail(RegistryError("away", retry=True))


class HttpPlace:
    def __init__(self, server: Server, registry: HttpRegistry) -> None:
        self._server = server
        self.registry: Registry = registry

    def push(self, image: Reference) -> None:
        self._server.manifests[image.repository, image.version] = MANIFEST
        self._server.manifests[image.repository, DIGEST] = MANIFEST

    def image(self, version: str) -> Reference:
        return image(self._server, version)

    def fail(self) -> None:
        self._server.fault = answering(503)


def answering(status: int) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "http://169.254.169.254/"})

    return answer


@pytest.fixture(params=["memory", "http"])
async def place(request: pytest.FixtureRequest, server: Server, registry: HttpRegistry) -> Place:
    return MemoryPlace() if request.param == "memory" else HttpPlace(server, registry)


async def test_a_pushed_tag_has_its_digest(place: Place) -> None:
    place.push(place.image("abc"))
    assert await place.registry.digest(place.image("abc")) == DIGEST
    assert await place.registry.digest(place.image(DIGEST)) == DIGEST


async def test_a_tag_that_was_never_pushed_is_none(place: Place) -> None:
    place.push(place.image("abc"))
    assert await place.registry.digest(place.image("other")) is None


async def test_a_registry_that_is_away_may_come_back(place: Place) -> None:
    place.fail()
    with pytest.raises(RegistryError) as caught:
        await place.registry.digest(place.image("abc"))
    assert caught.value.retry


# --- over HTTP -------------------------------------------------------------------------------------------------------


async def test_the_digest_is_computed_when_the_registry_does_not_say(server: Server, registry: HttpRegistry) -> None:
    server.manifests["tenant/hello", "abc"] = MANIFEST
    server.says_digest = False
    assert await registry.digest(image(server)) == DIGEST


async def test_a_token_is_fetched_as_docker_hub_wants_it(server: Server, registry: HttpRegistry) -> None:
    server.manifests["tenant/hello", "abc"] = MANIFEST
    server.challenge = (
        f'Bearer realm="http://{server.host}/token",service="the registry",scope="repository:x:pull,push"'
    )
    server.accepts = {"Bearer t0k3n"}
    assert await registry.digest(image(server), ME) == DIGEST
    asked = [row for row in server.asked if row[1].startswith("/token")]
    assert asked == [("GET", "/token?scope=repository:tenant/hello:pull&service=the+registry", ME.basic)]


async def test_a_public_image_needs_a_token_and_no_login(server: Server, registry: HttpRegistry) -> None:
    server.manifests["tenant/hello", "abc"] = MANIFEST
    server.challenge = f'Bearer realm="http://{server.host}/token"'
    server.accepts = {"Bearer t0k3n"}
    assert await registry.digest(image(server)) == DIGEST
    assert server.asked[1][2] == ""


async def test_basic_authentication_is_answered(server: Server, registry: HttpRegistry) -> None:
    server.manifests["tenant/hello", "abc"] = MANIFEST
    server.challenge = 'Basic realm="x"'
    server.accepts = {"Basic " + base64.b64encode(b"me:secret-word").decode()}
    assert await registry.digest(image(server), ME) == DIGEST


@pytest.mark.parametrize("login", [None, ME])
async def test_credentials_that_are_not_accepted_are_a_persons_matter(
    server: Server, registry: HttpRegistry, login: Login | None
) -> None:
    server.challenge = 'Basic realm="x"'
    with pytest.raises(RegistryError) as caught:
        await registry.digest(image(server), login)
    assert not caught.value.retry
    assert "secret" not in caught.value.message


async def test_credentials_are_not_sent_before_they_are_asked_for(server: Server, registry: HttpRegistry) -> None:
    await registry.digest(image(server), ME)
    assert [row[2] for row in server.asked] == [""]


@pytest.mark.parametrize(("status", "retry"), [(429, True), (500, True), (302, False), (400, False), (403, False)])
async def test_other_answers_are_errors_and_redirects_are_not_followed(
    server: Server, registry: HttpRegistry, status: int, retry: bool
) -> None:
    server.fault = answering(status)
    with pytest.raises(RegistryError) as caught:
        await registry.digest(image(server))
    assert caught.value.retry is retry
    assert len(server.asked) == 1


async def test_a_registry_that_hangs_is_given_up(server: Server) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    server.fault = hang
    registry = HttpRegistry(anywhere, seconds=0.2)
    began = time.monotonic()
    with pytest.raises(RegistryError) as caught:
        await registry.digest(image(server))
    assert caught.value.retry
    assert time.monotonic() - began < 2
    await registry.close()


async def test_a_registry_that_does_not_listen_is_told(registry: HttpRegistry) -> None:
    with pytest.raises(RegistryError) as caught:
        await registry.digest(Reference("127.0.0.1:1", "a", "b"))
    assert caught.value.retry


async def test_an_answer_without_end_is_cut(server: Server, registry: HttpRegistry) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if request.method == "GET":
            for _ in range(100):
                await response.write(bytes(65536))
        return response

    server.fault = flood
    with pytest.raises(RegistryError, match="more than"):
        await registry.digest(image(server))


async def test_an_address_that_is_refused_is_never_asked(server: Server) -> None:
    registry = HttpRegistry(lambda url: f"{url} must not be called")
    with pytest.raises(RegistryError, match="must not be called") as caught:
        await registry.digest(image(server))
    assert not caught.value.retry
    assert server.asked == []
    await registry.close()


async def test_the_operators_own_registry_is_not_refused(server: Server) -> None:
    server.manifests["tenant/hello", "abc"] = MANIFEST
    registry = HttpRegistry(lambda _: "no", trusted=[server.host])
    assert await registry.digest(image(server)) == DIGEST
    await registry.close()


async def test_a_token_server_that_is_refused_gets_no_credentials(server: Server) -> None:
    server.challenge = 'Bearer realm="http://169.254.169.254/token"'
    registry = HttpRegistry(lambda url: "metadata" if "169.254" in url else "")
    with pytest.raises(RegistryError, match="metadata"):
        await registry.digest(image(server), ME)
    assert len(server.asked) == 1
    await registry.close()
