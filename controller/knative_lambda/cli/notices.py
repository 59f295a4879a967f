"""Kubernetes Events of functions and repositories, for people and for programs. Called by describe and events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cli import seen
from knative_lambda.cluster.base import Cluster, Object, Selection
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.informer import Informer

FUNCTIONS, REPOSITORIES = kinds.LAMBDA_FUNCTION, kinds.FUNCTION_REPOSITORY
BOTH = (FUNCTIONS, REPOSITORIES)


@dataclass(frozen=True, slots=True)
class Notice:
    """One Event, in the state in which it was last written."""

    at: str
    """When it last happened, RFC 3339."""
    type: str
    """Normal or Warning."""
    reason: str
    kind: str
    namespace: str
    name: str
    note: str
    count: int
    id: str
    """Of the Event object."""

    def told(self) -> dict[str, object]:
        """For programs."""
        return {name: value for name, value in asdict(self).items() if name != "id"}


def notice(event: Object) -> Notice:
    """From an Event of events.k8s.io; those that were written as v1 have their times in the deprecated fields."""
    about, metadata, series = event.get("regarding") or {}, event["metadata"], event.get("series") or {}
    at = (
        series.get("lastObservedTime")
        or event.get("deprecatedLastTimestamp")
        or event.get("eventTime")
        or metadata.get("creationTimestamp")
    )
    return Notice(
        at=at or "",
        type=event.get("type") or "",
        reason=event.get("reason") or "",
        kind=about.get("kind") or "",
        namespace=about.get("namespace") or metadata.get("namespace", ""),
        name=about.get("name") or "",
        note=event.get("note") or "",
        count=series.get("count") or event.get("deprecatedCount") or 1,
        id=metadata.get("uid") or metadata["name"],
    )


def selections(namespace: str | None, name: str = "", *, of: Sequence[Kind] = BOTH) -> list[Selection]:
    """One per kind: a field selector knows no `or`."""
    also = f",regarding.name={name}" if name else ""
    return [Selection(namespace=namespace, fields=f"regarding.kind={kind.kind}{also}") for kind in of]


async def about(cluster: Cluster, key: Key, *, kind: Kind) -> list[Notice]:
    """Those of one object, the oldest first. Raises ClusterError."""
    return await recent(cluster, selections(key.namespace, key.name, of=(kind,)))


async def recent(cluster: Cluster, chosen: Sequence[Selection]) -> list[Notice]:
    """What the cluster still has (an hour of it, commonly), the oldest first. Raises ClusterError."""
    found = [notice(event) for each in chosen for event in await seen.every(cluster, kinds.EVENT, each)]
    return sorted(found, key=_order)


async def following(cluster: Cluster, chosen: Sequence[Selection], *, clock: Clock) -> AsyncGenerator[Notice, None]:
    """What is there, the oldest first, and then whatever comes, for ever; a broken connection is made anew."""
    arrived: asyncio.Queue[Notice] = asyncio.Queue()

    def changed(_key: Key, _old: Notice | None, new: Notice | None) -> None:
        if new is not None:
            arrived.put_nowait(new)

    await recent(cluster, chosen)  # a cluster that cannot be asked is an error now, and only later a thing to bear
    informer = Informer(cluster, kinds.EVENT, notice, clock=clock, selections=chosen)
    informer.on_change(changed)
    watching = asyncio.create_task(informer.run())
    try:
        await informer.wait_synced()
        first = [arrived.get_nowait() for _ in range(arrived.qsize())]
        for one in sorted(first, key=_order):
            yield one
        while True:
            yield await arrived.get()
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _order(one: Notice) -> tuple[str, str]:
    """By second: some times have fractions and some have not."""
    return (one.at[:19], one.at)
