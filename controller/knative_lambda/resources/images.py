"""Where a function's image is pushed and pulled: pure names, no registry is asked.

Build pods and nodes may reach one registry under two names (api-facts 2.3), hence a push and a pull host. Called by
reconcile.steps and `kaniko_job`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from knative_lambda.api.function import LambdaFunction

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?"
_REPOSITORY = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*")
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
REPOSITORY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Registries:
    """One registry under the names that build pods and nodes know it by; which hosts speak plain HTTP."""

    push: str
    pull: str
    insecure: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repositories:
    """One function's repository, seen from the build and from the node."""

    push: str
    pull: str

    def destination(self, tag: str) -> str:
        """What Kaniko pushes."""
        return f"{self.push}:{tag}"

    def pinned(self, digest: str) -> str:
        """What the Knative Service runs; `digest` with its `sha256:`."""
        return f"{self.pull}@{digest}"


def repositories(fn: LambdaFunction, registries: Registries) -> Repositories:
    """`<registry>/<namespace>/<name>`, or the repository that the function names itself.

    A function that names the registry by either of its two hosts is pushed by one and pulled by the other.
    """
    own = fn.spec.build.registry
    if own is None:
        path = f"{fn.metadata.namespace}/{fn.metadata.name}"
        return Repositories(push=f"{registries.push}/{path}", pull=f"{registries.pull}/{path}")
    host, slash, path = own.partition("/")
    if slash and host in (registries.push, registries.pull):
        return Repositories(push=f"{registries.push}/{path}", pull=f"{registries.pull}/{path}")
    return Repositories(push=own, pull=own)


def is_repository(text: str) -> bool:
    """Whether that is an image name without tag and digest."""
    return len(text) <= REPOSITORY_LENGTH and _REPOSITORY.fullmatch(text) is not None


def is_reference(text: str) -> bool:
    """Whether a node could pull that: a name with, at will, a tag and a digest."""
    found = _REFERENCE.fullmatch(text)
    return found is not None and len(found["repository"]) <= REPOSITORY_LENGTH


def is_digest(text: str) -> bool:
    """Whether that is a sha256 digest as registries write it."""
    return _DIGEST.fullmatch(text) is not None
