"""Keeps a process that does not lead from writing. Wiring gives reconcilers this cluster instead of the plain one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from knative_lambda.api.meta import FIELD_MANAGER, Key, Kind
from knative_lambda.cluster.base import (
    EVERYTHING,
    Cluster,
    Object,
    Page,
    Propagation,
    Selection,
    WatchEvent,
    WriteFenced,
)


class Fenced:
    """A Cluster whose writes raise WriteFenced unless `may_write` says yes at that very moment; reads pass through."""

    def __init__(self, cluster: Cluster, may_write: Callable[[], bool]) -> None:
        """`may_write` is that of an Election; the Lease itself is written through the plain cluster."""
        self._cluster = cluster
        self._may_write = may_write

    def _guard(self, verb: str, kind: Kind, name: object) -> None:
        if not self._may_write():
            raise WriteFenced(f"refused to {verb} {kind} {name}: this process does not lead")

    async def get(self, kind: Kind, key: Key) -> Object:
        return await self._cluster.get(kind, key)

    async def list(
        self, kind: Kind, selection: Selection = EVERYTHING, *, limit: int = 500, continue_token: str = ""
    ) -> Page:
        return await self._cluster.list(kind, selection, limit=limit, continue_token=continue_token)

    def watch(
        self, kind: Kind, selection: Selection = EVERYTHING, *, resource_version: str, seconds: int = 300
    ) -> AsyncIterator[WatchEvent]:
        return self._cluster.watch(kind, selection, resource_version=resource_version, seconds=seconds)

    async def create(self, kind: Kind, obj: Object) -> Object:
        self._guard("create", kind, _name(obj))
        return await self._cluster.create(kind, obj)

    async def apply(self, kind: Kind, obj: Object, *, manager: str = FIELD_MANAGER, force: bool = True) -> Object:
        self._guard("apply", kind, _name(obj))
        return await self._cluster.apply(kind, obj, manager=manager, force=force)

    async def patch(self, kind: Kind, key: Key, patch: Object, *, subresource: str = "") -> Object:
        self._guard("patch", kind, key)
        return await self._cluster.patch(kind, key, patch, subresource=subresource)

    async def replace(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        self._guard("replace", kind, _name(obj))
        return await self._cluster.replace(kind, obj, subresource=subresource)

    async def delete(
        self, kind: Kind, key: Key, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        self._guard("delete", kind, key)
        await self._cluster.delete(kind, key, uid=uid, propagation=propagation)

    async def served(self, kind: Kind) -> bool:
        return await self._cluster.served(kind)

    async def close(self) -> None:
        await self._cluster.close()


def _name(obj: Object) -> str:
    metadata = obj.get("metadata", {})
    return str(Key(metadata.get("namespace", ""), metadata.get("name") or metadata.get("generateName", "")))
