"""The port to forges: how one says what happened, and how we know that it was the forge. One module per forge.

Called by reception for every delivery. Nothing here reads a clock, a Secret or the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

Headers = Mapping[str, str]
"""Names in lower case."""
Payload = Mapping[str, Any]
"""The JSON object of a delivery; nothing about its shape is certain."""

BRANCH = "refs/heads/"
TAG = "refs/tags/"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One call of a forge, as it arrived."""

    headers: Headers
    body: bytes
    at: datetime
    """When it arrived; UTC."""


@dataclass(frozen=True, slots=True)
class Change:
    """One ref that moved, came or went."""

    ref: str
    """Full name: refs/heads/main."""
    before: str = ""
    """Commit, or nothing where the forge does not say."""
    after: str = ""
    deleted: bool = False
    is_default: bool | None = None
    """Whether it is the default branch; None where the forge does not say."""
    files: frozenset[str] | None = None
    """Every path that differs between before and after; None where the forge does not list all of them."""


@dataclass(frozen=True, slots=True)
class Push:
    """Refs moved."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """The forge asks whether we are there."""


@dataclass(frozen=True, slots=True)
class Look:
    """Something may have changed; what, the sender does not say."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that cannot change what a repository holds."""

    why: str


News = Push | Ping | Look | Ignored


class Verdict(StrEnum):
    """What a signature is worth."""

    GOOD = "good"
    UNSIGNED = "unsigned"
    """The header that carries the signature is not there."""
    WEAK = "weak"
    """Signed with SHA-1 only."""
    WRONG = "wrong"
    STALE = "stale"
    """Signed for another time than now."""


class Forge(Protocol):
    """One kind of sender. Headers choose it; they are not trusted, for every forge verifies with the same secret."""

    @property
    def name(self) -> str:
        """Label of metrics."""
        ...

    def matches(self, headers: Headers) -> bool:
        """Whether the headers look like this forge's."""
        ...

    def delivery_id(self, headers: Headers) -> str:
        """Identity of this delivery; empty where the sender gives none."""
        ...

    def verify(self, delivery: Delivery, token: bytes) -> Verdict:
        """Over the raw body, in constant time."""
        ...

    def read(self, headers: Headers, payload: Payload) -> News:
        """What a verified delivery says. In doubt it says Look: one look too many costs next to nothing."""
        ...
