"""Registries by the OCI distribution API: one HEAD, and the token dance of Docker Hub and its kin before it.

Redirects are not followed, and every address but those that the operator named goes through the dial policy; so does
the token server that a registry sends us to.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson

from knative_lambda.kit import redact
from knative_lambda.registry.base import Login, Reference, RegistryError

MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_BODY_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpRegistry:
    """The port's adapter. Made by wiring; `close` ends its connections."""

    def __init__(
        self,
        refusal: Callable[[str], str],
        *,
        trusted: Iterable[str] = (),
        insecure: Iterable[str] = (),
        seconds: float = 10.0,
    ) -> None:
        """`refusal` says why a URL must not be called (DialPolicy.refusal; blocking), empty when it may.

        `trusted` hosts, with their port, are the operator's own registries and are not asked about. `insecure` hosts
        speak plain HTTP, and so does loopback. `seconds` bounds one question with all its requests.
        """
        self._refusal = refusal
        self._trusted = frozenset(trusted)
        self._insecure = frozenset(insecure)
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def digest(self, image: Reference, login: Login | None = None) -> str | None:
        url = f"{self._scheme(image.host)}://{image.host}/v2/{image.repository}/manifests/{image.version}"
        try:
            async with asyncio.timeout(self._seconds):
                return await self._digest(url, image, login)
        except TimeoutError as error:
            raise RegistryError(f"registry {image.host} did not answer in {self._seconds:g} s", retry=True) from error
        except (aiohttp.ClientError, OSError) as error:
            words = redact.text(str(error))[:200]
            raise RegistryError(f"registry {image.host} cannot be asked: {words}", retry=True) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _digest(self, url: str, image: Reference, login: Login | None) -> str | None:
        headers = {"Accept": MANIFEST_TYPES}
        answer = await self._request("HEAD", url, headers)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            headers["Authorization"] = await self._authorization(answer, image, login)
            answer = await self._request("HEAD", url, headers)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        _check(answer, image.host)
        found = answer.headers.get("Docker-Content-Digest", "")
        return found if _DIGEST.fullmatch(found) else await self._computed(url, headers, image.host)

    async def _computed(self, url: str, headers: Mapping[str, str], host: str) -> str:
        """For a registry that does not say: the digest is that of the manifest's bytes."""
        answer = await self._request("GET", url, headers)
        _check(answer, host)
        return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"

    async def _authorization(self, answer: _Answer, image: Reference, login: Login | None) -> str:
        """What the registry's challenge asks for."""
        kind, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        if kind.lower() == "basic" and login is not None:
            return login.basic
        parameters = dict(_PARAMETER.findall(rest))
        if kind.lower() != "bearer" or not parameters.get("realm"):
            raise RegistryError(f"registry {image.host} wants credentials", retry=False)
        return f"Bearer {await self._token(parameters, image, login)}"

    async def _token(self, parameters: Mapping[str, str], image: Reference, login: Login | None) -> str:
        realm = parameters["realm"]
        if urlsplit(realm).scheme != "https" and self._scheme(image.host) == "https":
            raise RegistryError(f"registry {image.host} sends us to a token server without TLS", retry=False)
        query = {"scope": f"repository:{image.repository}:pull"}
        if parameters.get("service"):
            query["service"] = parameters["service"]
        joint = "&" if "?" in realm else "?"
        headers = {"Authorization": login.basic} if login is not None else {}
        answer = await self._request("GET", f"{realm}{joint}{urlencode(query)}", headers)
        _check(answer, image.host)
        try:
            given = orjson.loads(answer.body)
            token = given.get("token") or given.get("access_token")
        except (orjson.JSONDecodeError, AttributeError):
            token = None
        if not isinstance(token, str) or not token.isprintable():
            raise RegistryError(f"the token server of {image.host} gave no token", retry=True)
        return token

    async def _request(self, method: str, url: str, headers: Mapping[str, str]) -> _Answer:
        await self._check_address(url)
        session = self._opened()
        async with session.request(method, url, headers=headers, allow_redirects=False) as response:
            body = await _bounded(response) if method == "GET" else b""
            return _Answer(response.status, response.headers, body)

    async def _check_address(self, url: str) -> None:
        if urlsplit(url).netloc in self._trusted:
            return
        why = await asyncio.to_thread(self._refusal, url)
        if why:
            raise RegistryError(why, retry=False)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        return self._session

    def _scheme(self, host: str) -> str:
        return "http" if host in self._insecure or _LOOPBACK.fullmatch(host) else "https"


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, unless it is too long to be a manifest or a token."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise RegistryError(f"{response.url.host} answers with more than {_BODY_LIMIT} bytes", retry=False)
    return bytes(body)


def _check(answer: _Answer, host: str) -> None:
    """Raises for everything but success."""
    status = answer.status
    if status == HTTPStatus.OK:
        return
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise RegistryError(f"registry {host} does not accept the credentials ({status})", retry=False)
    passing = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    raise RegistryError(f"registry {host} answered {status}", retry=passing)
