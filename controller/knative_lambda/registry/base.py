"""The port to image registries, and what names and opens an image."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Protocol

import orjson

HUB = "registry-1.docker.io"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry.hub.docker.com", HUB})
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+|/)[a-z0-9]+)*")


class RegistryError(Exception):
    """A registry that did not say. The message is safe to show; `retry` says whether time may heal it."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.message = message
        self.retry = retry


@dataclass(frozen=True, slots=True)
class Reference:
    """An image by tag or digest, as the registry's URL needs it."""

    host: str
    """With its port, if it has one."""
    repository: str
    version: str
    """Tag, or `sha256:…`."""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """`host/repository:tag`; Docker Hub's short names too. Raises ValueError."""
        name, at, digest = text.partition("@")
        host, repository = _host_and_rest(name)
        repository, colon, tag = repository.partition(":")
        version = digest if at else (tag if colon else "latest")
        if not _REPOSITORY.fullmatch(repository) or not (_DIGEST if at else _TAG).fullmatch(version):
            raise ValueError(f"{text!r} is not an image; write host/repository:tag")
        return cls(host, repository, version)


@dataclass(frozen=True, slots=True)
class Login:
    """User and password of one registry; never printed."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(***)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class Registry(Protocol):
    """Asks registries. Raises RegistryError only, within a bounded time."""

    async def digest(self, image: Reference, login: Login | None = None) -> str | None:
        """`sha256:…` of the manifest that the image names now; None when there is none."""
        ...


def login_of(config: bytes, host: str) -> Login | None:
    """The registry's entry of a `.dockerconfigjson`, None when it has none. RegistryError for what is no such file."""
    try:
        auths = orjson.loads(config).get("auths", {})
        for name, entry in auths.items():
            if _same_registry(name, host):
                return _login(entry)
    except (orjson.JSONDecodeError, AttributeError, binascii.Error, ValueError) as error:
        raise RegistryError("the pull Secret is not a .dockerconfigjson", retry=False) from error
    return None


def _login(entry: dict[str, str]) -> Login:
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        return Login(user, password)
    return Login(entry.get("username", ""), entry.get("password", ""))


def _same_registry(name: str, host: str) -> bool:
    named = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return named == host or (host == HUB and named in _HUB_NAMES)


def _host_and_rest(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return HUB, name if slash else f"library/{name}"
    if first in _HUB_NAMES:
        return HUB, rest if "/" in rest else f"library/{rest}"
    return first, rest
