"""Everything that syncing a repository touches: ports, caches, settings, and what is remembered between looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from knative_lambda.api.meta import Key
from knative_lambda.api.repository import FunctionRepository, RepositoryStatus
from knative_lambda.cluster.base import Cluster
from knative_lambda.gitsync import diff
from knative_lambda.gitsync.base import Checkout
from knative_lambda.gitsync.discovery import DEFAULT_LIMITS, Limits, Read
from knative_lambda.gitsync.observed import RepositorySeen
from knative_lambda.gitsync.requests import SyncRequests
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.recorder import Regarding
from knative_lambda.machinery.store import Store
from knative_lambda.resources.observed import FunctionSeen
from knative_lambda.sources.base import SourceError


class Recorder(Protocol):
    """Tells people, by Kubernetes Events (machinery.recorder)."""

    def record(
        self, regarding: Regarding, *, type: Literal["Normal", "Warning"], reason: str, note: str, action: str
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How a repository is synced."""

    concurrency: int = 16
    """Writes at a time."""
    write_seconds: float = 60.0
    """After so long a sync reports what it has written, and goes on in the next."""
    jitter: float = 0.1
    """Share of the interval by which polls are spread."""
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class Refusal:
    """A manifest that the API server called invalid; it is not sent again for a while."""

    digest: str
    message: str
    at: float
    """Monotonic time."""


@dataclass(slots=True)
class Known:
    """What is remembered of one repository. Losing it costs a look at the remote, nothing else."""

    uid: str
    """Another object of the same name is another repository."""
    generation: int = 0
    asked: bool = False
    """Whether the remote was asked since this process, or this generation of the spec, began."""
    next_ask: float = 0.0
    """Monotonic time."""
    failures: int = 0
    head: str = ""
    """Newest commit seen at the remote."""
    problem: SourceError | None = None
    """Why the last look at the remote did not end with a revision."""
    revision: diff.Revision | None = None
    """Newest commit that was read whole."""
    handled: str = ""
    """Value of the reconcile annotation at the last look."""
    reads: Mapping[str, Read] = field(default_factory=dict)
    memory: diff.Memory = field(default_factory=diff.Memory)
    written: dict[Key, diff.Written] = field(default_factory=dict)
    refused: dict[Key, Refusal] = field(default_factory=dict)
    write_failures: int = 0
    """Syncs in a row that could not write everything."""
    finalized: str = ""
    """Uid of the object that carries our finalizer, the cache may not show it yet."""
    parsed: tuple[str, FunctionRepository] | None = None
    """(resourceVersion, object)."""
    status: tuple[int, RepositoryStatus] | None = None
    """(resourceVersion, status) of our last write, for as long as the cache is behind."""

    def unseen_writes(self, functions: Store[FunctionSeen], now: float) -> dict[Key, diff.Written]:
        """Writes that the cache has yet to show; what it has shown is forgotten for good."""
        self.written = {key: one for key, one in self.written.items() if one.is_unseen(functions.get(key), now)}
        return self.written


@dataclass(frozen=True, slots=True)
class SyncWorld:
    """Ports and caches. Made by wiring, or by a test with memory twins."""

    cluster: Cluster
    clock: Clock
    repositories: Store[RepositorySeen]
    functions: Store[FunctionSeen]
    """With the index REPOSITORY_INDEX."""
    checkout: Checkout
    requests: SyncRequests
    recorder: Recorder
    settings: SyncSettings = field(default_factory=SyncSettings)
    known: dict[Key, Known] = field(default_factory=dict)
