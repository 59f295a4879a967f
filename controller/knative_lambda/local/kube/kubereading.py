"""Lists and watches of one resource as it is served: stored objects in their served form. Called by kubeverbs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from knative_lambda.cluster import selectors
from knative_lambda.cluster.base import ClusterError, EventKind, Object, Page, Selection, WatchEvent
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.cluster.selectors import Traits
from knative_lambda.local.kube import kubestatus, kubetable
from knative_lambda.local.kube.kubecatalog import Resource

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
Shape = Callable[[Object], Object]


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a client asked of a watch."""

    resource_version: str
    seconds: int
    bookmarks: bool = False
    initial: bool | None = None
    """sendInitialEvents, if given."""

    @property
    def from_the_start(self) -> bool:
        """Whether everything that is there comes first, as ADDED."""
        return self.initial is True or (self.initial is None and self.resource_version in ("", "0"))


class Reading:
    """One resource under one selection. Raises Invalid at once for a selection that cannot be."""

    def __init__(self, cluster: MemoryCluster, resource: Resource, selection: Selection) -> None:
        self._cluster = cluster
        self._resource = resource
        self._matcher = selectors.compiled(selection, fields=resource.selectable)
        stored = Selection(selection.namespace, selection.labels) if resource.is_view else selection
        self._selection = stored

    async def page(self, *, limit: int = 0, continue_token: str = "") -> Page:
        found = await self._cluster.list(
            self._resource.definition.kind, self._selection, limit=limit, continue_token=continue_token
        )
        items = [item for item in map(self._resource.shown, found.items) if self._is_wanted(item)]
        return Page(items, found.resource_version, found.continue_token)

    async def events(self, options: WatchOptions) -> AsyncIterator[WatchEvent]:
        version = options.resource_version
        if options.from_the_start or version in ("", "0"):
            page = await self.page()
            version = page.resource_version
            for item in page.items if options.from_the_start else ():
                yield WatchEvent(EventKind.ADDED, item)
        if options.initial:
            yield self._all_sent(version)
        changes = self._cluster.watch(
            self._resource.definition.kind, self._selection, resource_version=version, seconds=options.seconds
        )
        async with aclosing(changes) as stream:  # type: ignore[type-var] # the port says iterator, it is a generator
            async for event in stream:
                if event.kind is EventKind.BOOKMARK:
                    if options.bookmarks:
                        yield event
                elif self._is_wanted(shown := self._resource.shown(event.object)):
                    yield WatchEvent(event.kind, shown)

    async def lines(self, options: WatchOptions, shape: Shape) -> AsyncIterator[bytes]:
        """The body of a watch; a failure is its last line."""
        try:
            async with aclosing(self.events(options)) as events:  # type: ignore[type-var]
                async for event in events:
                    yield _line(event.kind.value, shape(event.object))
        except ClusterError as error:
            yield _line("ERROR", kubestatus.of_error(error, self._resource.kind, ""))

    def _is_wanted(self, obj: Object) -> bool:
        """The cluster has selected already, but for fields that only the served form has."""
        if not self._resource.is_view:
            return True
        metadata = obj["metadata"]
        fields = {path: _text(obj, path) for path in self._resource.selectable}
        return self._matcher.matches(Traits(metadata.get("namespace", ""), metadata.get("labels") or {}, fields))

    def _all_sent(self, version: str) -> WatchEvent:
        kind = self._resource.kind
        metadata = {"resourceVersion": version, "annotations": {INITIAL_EVENTS_END: "true"}}
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        return WatchEvent(EventKind.BOOKMARK, obj)


async def until(ending: asyncio.Event, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines until `ending` is set: a server that stops waits for no watch."""
    end = asyncio.ensure_future(ending.wait())
    line = asyncio.ensure_future(anext(lines, b""))
    try:
        while True:
            await asyncio.wait({line, end}, return_when=asyncio.FIRST_COMPLETED)
            if not line.done() or not line.result():
                return
            yield line.result()
            line = asyncio.ensure_future(anext(lines, b""))
    finally:
        end.cancel()
        line.cancel()
        await asyncio.wait({line})


def _line(type_: str, obj: Object) -> bytes:
    return orjson.dumps({"type": type_, "object": obj}) + b"\n"


def _text(obj: Object, path: str) -> str:
    found = kubetable.values(obj, f".{path}")
    return found[0] if found and isinstance(found[0], str) else ""
