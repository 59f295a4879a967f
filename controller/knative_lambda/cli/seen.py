"""What a cluster says of functions, as far as commands show it. Pure but for `find` and `every`, which ask.

Objects are read as dicts: a function that a later release wrote is shown, too. Called by the commands of functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from knative_lambda.api import kinds, meta
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cli.failures import Fault
from knative_lambda.cluster.base import Cluster, Forbidden, KindNotInstalled, NotFound, Object, Selection

MISSING_KIND = (
    "the cluster does not know LambdaFunctions; install them: kn-lambda schemas --crds | kubectl apply"
    " --server-side -f -"
)
_HEXADECIMAL = re.compile(r"^(sha256:)?[0-9a-f]{12,64}$")
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


@dataclass(frozen=True, slots=True)
class Row:
    """One function in a line."""

    key: Key
    ready: str
    """True, False, Unknown."""
    reason: str
    message: str
    phase: str
    revision: str
    """Of the source: a commit, an object's version."""
    url: str
    image: str
    created: str

    def told(self) -> dict[str, str]:
        """For programs."""
        return {
            "namespace": self.key.namespace,
            "name": self.key.name,
            "ready": self.ready,
            "reason": self.reason,
            "message": self.message,
            "phase": self.phase,
            "revision": self.revision,
            "url": self.url,
            "image": self.image,
            "created": self.created,
        }


def row(fn: Object) -> Row:
    """A function that nobody has looked at yet is Unknown."""
    metadata, status = fn["metadata"], fn.get("status") or {}
    ready = condition(fn, "Ready")
    return Row(
        key=Key(metadata.get("namespace", ""), metadata["name"]),
        ready=ready.get("status", "Unknown"),
        reason=ready.get("reason", ""),
        message=ready.get("message", ""),
        phase=status.get("phase") or "",
        revision=(status.get("sourceStatus") or {}).get("revision", ""),
        url=status.get("url") or "",
        image=status.get("image") or "",
        created=metadata.get("creationTimestamp") or "",
    )


def condition(fn: Object, kind: str) -> dict[str, Any]:
    """That condition, {} without one."""
    rows = (fn.get("status") or {}).get("conditions") or ()
    found: dict[str, Any] = next((one for one in rows if one.get("type") == kind), {})
    return found


def readiness(fn: Object) -> str:
    """Why it is not ready, in a clause; empty when it is."""
    now = row(fn)
    if now.ready == "True":
        return ""
    return ": ".join(filter(None, (now.reason or "its controller has not looked at it yet", now.message)))


def repository(fn: Object) -> Key | None:
    """The FunctionRepository that owns it."""
    labels = fn["metadata"].get("labels") or {}
    name = labels.get(meta.LABEL_REPOSITORY)
    if not name:
        return None
    return Key(labels.get(meta.LABEL_REPOSITORY_NAMESPACE) or fn["metadata"].get("namespace", ""), name)


def short_revision(revision: str) -> str:
    """`3f9a0c1b` of a commit; other versions as they are."""
    bare = revision.removeprefix("sha256:")
    return bare[:8] if _HEXADECIMAL.match(revision) else revision[:20]


def short_image(image: str) -> str:
    """`hello@sha256:3f9a0c1b2d4e` of `registry/shop/hello@sha256:…`."""
    name, _, digest = image.rpartition("/")[2].partition("@")
    return f"{name}@{digest[: len('sha256:') + 12]}" if digest else name


def age(moment: str, *, now: datetime) -> str:
    """`45s`, `3m`, `5h`, `2d` since a moment as the API server writes it; empty for none."""
    try:
        seconds = int((now - datetime.fromisoformat(moment).astimezone(UTC)).total_seconds())
    except ValueError:
        return ""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


async def find(cluster: Cluster, key: Key) -> Object:
    """That function. Raises Fault when there is none, ClusterError."""
    try:
        return await cluster.get(kinds.LAMBDA_FUNCTION, key)
    except KindNotInstalled as error:
        raise KindNotInstalled(MISSING_KIND) from error
    except NotFound as error:
        raise Fault(
            f"there is no function {key.name} in namespace {key.namespace}; kn-lambda list -A shows all that are there"
        ) from error


async def functions(cluster: Cluster, namespace: str | None) -> list[Object]:
    """Of one namespace or of all of them, by name. Raises ClusterError."""
    try:
        found = await every(cluster, kinds.LAMBDA_FUNCTION, Selection(namespace=namespace))
    except KindNotInstalled as error:
        raise KindNotInstalled(MISSING_KIND) from error
    except Forbidden as error:
        raise Forbidden(error.message + ("" if namespace else "; ask for one namespace, with -n")) from error
    return sorted(found, key=lambda fn: (fn["metadata"].get("namespace", ""), fn["metadata"]["name"]))


async def every(cluster: Cluster, kind: Kind, selection: Selection) -> list[Object]:
    """All pages. Raises ClusterError."""
    found: list[Object] = []
    token = ""
    while True:
        page = await cluster.list(kind, selection, continue_token=token)
        found += page.items
        token = page.continue_token
        if not token:
            return found


def key_of(name: str, namespace: str) -> Key:
    """`hello`, or `shop/hello`, which says its namespace itself. Raises Fault."""
    given, slash, rest = name.rpartition("/")
    if not rest or "/" in given or (slash and not given):
        raise Fault(f"{name!r} is no function: write NAME, or NAMESPACE/NAME")
    return Key(given or namespace, rest)


def lines(pairs: list[tuple[str, str]]) -> Iterator[str]:
    """`Name:  value`, one under the other; further lines of a value are indented as its first."""
    width = max(len(name) for name, _ in pairs) + 3
    for name, value in pairs:
        first, *more = value.split("\n")
        yield f"{name + ':':<{width}}{first}".rstrip()
        yield from (f"{'':<{width}}{line}" for line in more)
