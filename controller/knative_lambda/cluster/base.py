"""The port to a Kubernetes API server: the few verbs that this project uses, and its failures as types.

Objects are dicts as the API server sends them, without managedFields. Errors are ClusterError subclasses and
nothing else; their text is safe to show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from knative_lambda.api.meta import FIELD_MANAGER, Key, Kind

Object = dict[str, Any]
Propagation = Literal["Background", "Foreground", "Orphan"]


class ClusterError(Exception):
    """Base of everything that a Cluster raises."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        """Seconds that the server asked for (Retry-After), if it did."""


class NotFound(ClusterError):
    """404: no such object, or no such kind (see KindNotInstalled)."""


class KindNotInstalled(NotFound):
    """404 on a whole resource: its CRD is not installed."""


class AlreadyExists(ClusterError):
    """409 on create."""


class Conflict(ClusterError):
    """409 on a guarded write: somebody else wrote first, or owns the field."""


class Invalid(ClusterError):
    """400 or 422: the server refuses the object, in its words."""


class Forbidden(ClusterError):
    """401 or 403."""


class Gone(ClusterError):
    """410: the resourceVersion is too old; list again."""


class TooManyRequests(ClusterError):
    """429: the server asks for patience."""


class Unavailable(ClusterError):
    """5xx, refused or cut connections."""


class Timeout(Unavailable):
    """No answer in time; a write may have happened."""


class CircuitOpen(Unavailable):
    """Not asked: too many failures in a row a moment ago."""


class WriteFenced(ClusterError):
    """Not asked: this process is not, or no longer, the leader."""


class EventKind(StrEnum):
    """Type of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch; `object` of a BOOKMARK has only metadata.resourceVersion."""

    kind: EventKind
    object: Object


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, of at most the asked size."""

    items: list[Object]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to list or watch: everywhere, or one namespace, by labels and fields (`a=b,c in (d,e)`)."""

    namespace: str | None = None
    labels: str = ""
    fields: str = ""


EVERYTHING = Selection()


class Cluster(Protocol):
    """A Kubernetes API server. Every call has its own timeout and raises ClusterError only."""

    async def get(self, kind: Kind, key: Key) -> Object:
        """One object, read from the server."""
        ...

    async def list(
        self, kind: Kind, selection: Selection = EVERYTHING, *, limit: int = 500, continue_token: str = ""
    ) -> Page:
        """One page; call again with its continue_token until that is empty. Gone when the token expired."""
        ...

    def watch(
        self, kind: Kind, selection: Selection = EVERYTHING, *, resource_version: str, seconds: int = 300
    ) -> AsyncIterator[WatchEvent]:
        """Changes after that version, with bookmarks; ends by itself after `seconds` or when the server cuts it.

        Raises Gone when the version was compacted away, other ClusterErrors when the stream breaks.
        """
        ...

    async def create(self, kind: Kind, obj: Object) -> Object:
        """POST. AlreadyExists when the name is taken; generateName is honoured."""
        ...

    async def apply(self, kind: Kind, obj: Object, *, manager: str = FIELD_MANAGER, force: bool = True) -> Object:
        """Server-side apply of a whole desired object: fields that this manager owned and no longer sends go away."""
        ...

    async def patch(self, kind: Kind, key: Key, patch: Object, *, subresource: str = "") -> Object:
        """JSON merge patch; null removes. With metadata.resourceVersion in it, Conflict when that is not current."""
        ...

    async def replace(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        """PUT, guarded by the object's resourceVersion (Leases)."""
        ...

    async def delete(
        self, kind: Kind, key: Key, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        """Starts deletion; NotFound when it is gone, Conflict when another object now has the name (uid differs)."""
        ...

    async def served(self, kind: Kind) -> bool:
        """Whether the server knows this kind (discovery)."""
        ...

    async def close(self) -> None:
        """Ends connections; running watches end."""
        ...


class PodLogs(Protocol):
    """What containers printed. A port of its own, for only a person at the command line asks."""

    def log(self, pod: Key, *, container: str, follow: bool = False, tail: int | None = None) -> AsyncIterator[bytes]:
        """Bytes as they come, of at most the last `tail` lines and then, with `follow`, until the container ends.

        Raises ClusterErrors: NotFound, Invalid while the container has not started, Unavailable when it breaks off.
        """
        ...
