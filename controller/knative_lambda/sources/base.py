"""The port to places that hold code.

The controller only *resolves* (learns a digest); the build's init container *fetches*. Both go through the dial policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import Source


class SourceError(Exception):
    """A source that cannot be had. The message is safe to show; `retry` says whether time may heal it."""

    def __init__(self, reason: Reason, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry = retry


@dataclass(frozen=True, slots=True)
class Credentials:
    """Values of a Secret by key (username, password, identity, known_hosts, accessKey, …); never printed."""

    values: dict[str, str] = field(default_factory=dict, repr=False)

    def get(self, key: str) -> str:
        return self.values.get(key, "")


ANONYMOUS = Credentials()


@dataclass(frozen=True, slots=True)
class Resolution:
    """A source as it stands now."""

    digest: str
    """64 hex characters over what identifies the content."""
    revision: str
    """Commit, object version or image digest, for people."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a fetched tree may cost."""

    total_bytes: int = 100 * 1024 * 1024
    file_bytes: int = 50 * 1024 * 1024
    files: int = 20_000
    depth: int = 32
    seconds: int = 300


class Sources(Protocol):
    """Resolves any source. Raises SourceError only, within a bounded time."""

    async def resolve(self, source: Source, credentials: Credentials = ANONYMOUS) -> Resolution:
        """Asks the remote for the digest of what would be built now; pinned and inline sources answer without I/O."""
        ...


class Fetcher(Protocol):
    """Brings one kind of source to disk. Used by `kn-lambda build-context` only."""

    def fetch(self, source: Source, credentials: Credentials, into: Path, limits: FetchLimits) -> Resolution:
        """Fills the empty directory `into`; blocking; raises SourceError."""
        ...
