"""Names of images, and the Secret that opens a registry."""

from __future__ import annotations

import base64
import json

import pytest

from knative_lambda.registry.base import HUB, Login, Reference, RegistryError, login_of

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ghcr.io/me/hello:1.0", ("ghcr.io", "me/hello", "1.0")),
        ("localhost:5001/tenant/hello:abc", ("localhost:5001", "tenant/hello", "abc")),
        ("localhost/hello", ("localhost", "hello", "latest")),
        (f"ghcr.io/me/hello@{DIGEST}", ("ghcr.io", "me/hello", DIGEST)),
        (f"ghcr.io/me/hello:1.0@{DIGEST}", ("ghcr.io", "me/hello", DIGEST)),
        ("python:3.13-slim", (HUB, "library/python", "3.13-slim")),
        ("me/hello:1", (HUB, "me/hello", "1")),
        ("docker.io/me/hello:1", (HUB, "me/hello", "1")),
        ("docker.io/python:3", (HUB, "library/python", "3")),
    ],
)
def test_an_image_is_read_as_a_node_reads_it(text: str, expected: tuple[str, str, str]) -> None:
    found = Reference.parse(text)
    assert (found.host, found.repository, found.version) == expected


@pytest.mark.parametrize(
    "text",
    ["", "ghcr.io/", "ghcr.io/Me/hello", "ghcr.io/a/../b", "ghcr.io/a:b c", "ghcr.io/a@sha256:1", "a:1/b?x", "a//b"],
)
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an image"):
        Reference.parse(text)


def config(**auths: dict[str, str]) -> bytes:
    return json.dumps({"auths": auths}).encode()


def packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("ghcr.io/me", "ghcr.io"),
        ("localhost:5001", "localhost:5001"),
        ("https://index.docker.io/v1/", HUB),
        ("docker.io", HUB),
    ],
)
def test_a_login_is_found_by_the_registrys_names(name: str, host: str) -> None:
    assert login_of(config(**{name: {"auth": packed("me:pass:word")}}), host) == Login("me", "pass:word")


def test_a_login_may_stand_in_plain_fields() -> None:
    assert login_of(config(**{"ghcr.io": {"username": "me", "password": "secret"}}), "ghcr.io") == Login("me", "secret")


def test_another_registrys_login_is_not_taken() -> None:
    assert login_of(config(**{"ghcr.io": {"auth": packed("me:x")}}), "evil.ghcr.io") is None


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"auths": {"ghcr.io": {"auth": "%"}}}', b'{"auths": {"ghcr.io": 5}}']
)
def test_what_is_no_docker_config_is_told_without_its_content(text: bytes) -> None:
    with pytest.raises(RegistryError, match="dockerconfigjson"):
        login_of(text, "ghcr.io")


def test_a_login_is_never_printed() -> None:
    assert "secret" not in repr(Login("me", "secret"))
    assert Login("me", "secret").basic == f"Basic {packed('me:secret')}"
