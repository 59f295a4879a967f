"""What the verbs of the Kubernetes API do to a memory cluster. Called by kubeapi once it knows the resource."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Conflict, NotFound, Object, Propagation, Selection, Timeout
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import Clock
from knative_lambda.local.kube import kubebodies, kubereading, kubestatus, kubetable
from knative_lambda.local.kube.kubeanswers import NO_STORE, json
from knative_lambda.local.kube.kubebodies import Bodies
from knative_lambda.local.kube.kubecatalog import Catalog, Column, Resource
from knative_lambda.local.kube.kubereading import Reading, Shape, WatchOptions
from knative_lambda.local.kube.kubestatus import Refusal, bad_request

WATCH_SECONDS = 1800
"""A watch that names no end, and the longest one."""
_PROPAGATIONS = get_args(Propagation)
_TRUE = ("true", "1")
_NOTHING: Object = {}


@dataclass(frozen=True, slots=True)
class Call:
    """One request for one resource; an empty name means all of them."""

    request: Request
    resource: Resource
    key: Key
    subresource: str = ""

    def asked(self, name: str) -> str:
        """A parameter of the query."""
        return self.request.query_params.get(name, "")

    def flag(self, name: str) -> bool:
        return self.asked(name).lower() in _TRUE

    def number(self, name: str, default: int) -> int:
        given = self.asked(name)
        if not given:
            return default
        if not (given.isascii() and given.isdigit() and len(given) < 16):
            raise bad_request(f"{name} must be a number")
        return int(given)


class Verbs:
    """One method per verb; each answers a Call, and raises ClusterError or Refusal."""

    def __init__(self, cluster: MemoryCluster, catalog: Catalog, *, clock: Clock) -> None:
        self.ending = asyncio.Event()
        """Once set, watches end."""
        self._cluster = cluster
        self._catalog = catalog
        self._clock = clock
        self._bodies = Bodies(clock=clock)

    def of(self, call: Call) -> Callable[[Call], Awaitable[Response]]:
        """The method for a call; Refusal when the resource has no such verb."""
        verb, method = {
            ("GET", True): ("get", self._get),
            ("GET", False): ("watch", self._watch) if call.flag("watch") else ("list", self._list),
            ("POST", False): ("create", self._create),
            ("PUT", True): ("update", self._replace),
            ("PATCH", True): ("patch", self._patch),
            ("DELETE", True): ("delete", self._delete),
        }.get((call.request.method, bool(call.key.name)), ("", self._get))
        if verb not in call.resource.verbs or (call.subresource and verb not in ("get", "patch", "update")):
            raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return method

    def _target(self, call: Call, options: Object = _NOTHING) -> MemoryCluster:
        """Where a write goes: a dry run goes to a copy that is thrown away."""
        return self._cluster.copy() if call.asked("dryRun") or options.get("dryRun") else self._cluster

    # ---- reading ----

    async def _get(self, call: Call) -> Response:
        obj = call.resource.shown(await self._cluster.get(call.resource.definition.kind, call.key))
        columns = await self._columns(call)
        return json(obj if columns is None else self._table(call, columns, [obj]))

    async def _list(self, call: Call) -> Response:
        kind, least = call.resource.kind, call.number("resourceVersion", 0)
        page = await self._reading(call).page(limit=call.number("limit", 0), continue_token=call.asked("continue"))
        if least > int(page.resource_version):
            raise Timeout(f"Too large resource version: {least}, current: {page.resource_version}", retry_after=1)
        metadata = {"resourceVersion": page.resource_version}
        if page.continue_token:
            metadata["continue"] = page.continue_token
        columns = await self._columns(call)
        if columns is not None:
            return json({**self._table(call, columns, page.items), "metadata": metadata})
        shown = {"apiVersion": kind.api_version, "kind": f"{kind.kind}List", "metadata": metadata}
        return json({**shown, "items": page.items})

    async def _watch(self, call: Call) -> Response:
        seconds = call.number("timeoutSeconds", WATCH_SECONDS) or WATCH_SECONDS
        initial = call.asked("sendInitialEvents")
        options = WatchOptions(
            resource_version=call.asked("resourceVersion"),
            seconds=min(seconds, WATCH_SECONDS),
            bookmarks=call.flag("allowWatchBookmarks"),
            initial=call.flag("sendInitialEvents") if initial else None,
        )
        reading = self._reading(call)
        lines = kubereading.until(self.ending, reading.lines(options, await self._shape(call)))
        return StreamingResponse(lines, media_type="application/json", headers=NO_STORE)

    def _reading(self, call: Call) -> Reading:
        selection = Selection(call.key.namespace or None, call.asked("labelSelector"), call.asked("fieldSelector"))
        return Reading(self._cluster, call.resource, selection)

    async def _columns(self, call: Call) -> Sequence[Column] | None:
        """None when the client takes objects as they are."""
        if not kubetable.wanted(call.request.headers.get("accept", "")):
            return None
        return (await self._catalog.names(call.resource.kind)).columns

    def _table(
        self, call: Call, columns: Sequence[Column], objects: Sequence[Object], *, heading: bool = True
    ) -> Object:
        now, include = self._clock.now(), call.asked("includeObject")
        return kubetable.table(columns, objects, now=now, include=include, heading=heading)

    async def _shape(self, call: Call) -> Shape:
        """How a watch shows its objects: as they are, or each as a table, of which the first has the heading."""
        columns = await self._columns(call)
        if columns is None:
            return lambda obj: obj
        headings = iter([True])
        return lambda obj: self._table(call, columns, [obj], heading=next(headings, False))

    # ---- writing ----

    async def _create(self, call: Call) -> Response:
        obj = _addressed(await self._bodies.read(call.request), call)
        return json(await self._target(call).create(call.resource.kind, obj), status=201)

    async def _replace(self, call: Call) -> Response:
        obj = _addressed(await self._bodies.read(call.request), call)
        return json(await self._target(call).replace(call.resource.kind, obj, subresource=call.subresource))

    async def _patch(self, call: Call) -> Response:
        form = kubebodies.content_type(call.request)
        if form not in (kubebodies.APPLY, kubebodies.MERGE, kubebodies.STRATEGIC):
            raise Refusal(415, "UnsupportedMediaType", f"patches of type {form[:80]!r} are not served by local mode")
        body = await self._bodies.read(call.request)
        if form == kubebodies.APPLY:
            return await self._apply(call, body)
        if form == kubebodies.STRATEGIC and not _merges(body):
            raise Refusal(
                415,
                "UnsupportedMediaType",
                "local mode knows no strategic merge of lists; use kubectl apply --server-side or patch --type=merge",
            )
        _require_object(body.get("metadata") or {}, "metadata")
        kind = call.resource.kind
        return json(await self._target(call).patch(kind, call.key, body, subresource=call.subresource))

    async def _apply(self, call: Call, body: Object) -> Response:
        manager = call.asked("fieldManager")
        if not manager:
            raise bad_request("fieldManager: Required value: is required for apply patch")
        if call.subresource:
            raise bad_request(f"local mode applies no {call.subresource}; send a merge patch")
        obj = _addressed(body, call)
        kind, force = call.resource.kind, call.flag("force")
        return json(await self._target(call).apply(kind, obj, manager=manager, force=force))

    async def _delete(self, call: Call) -> Response:
        options = await self._bodies.read(call.request)
        cluster, kind, key = self._target(call, options), call.resource.definition.kind, call.key
        uid, propagation = await self._guarded(call, options), _propagation(call, options)
        stored = await cluster.get(kind, key)
        await cluster.delete(kind, key, uid=uid, propagation=propagation)
        try:
            left = await cluster.get(kind, key)
        except NotFound:
            left = {}
        uid = stored["metadata"]["uid"]
        if left and left["metadata"]["uid"] == uid:
            return json(call.resource.shown(left))
        details = {"name": key.name, "group": kind.group, "kind": kind.plural, "uid": uid}
        return json(kubestatus.status(200, reason="", message="", details=details))

    async def _guarded(self, call: Call, options: Object) -> str | None:
        """The uid that the object must have; its version is compared here, which the cluster's port does not do."""
        guards = options.get("preconditions") or {}
        _require_object(guards, "preconditions")
        version, uid = guards.get("resourceVersion"), guards.get("uid")
        kind = call.resource.definition.kind
        if version is not None:
            live = await self._cluster.get(kind, call.key)
            if live["metadata"]["resourceVersion"] != version:
                raise Conflict(f"precondition failed: the object has been modified since version {version}")
        return None if uid is None else str(uid)


def _propagation(call: Call, options: Object) -> Propagation:
    found = options.get("propagationPolicy") or call.asked("propagationPolicy") or "Background"
    if found not in _PROPAGATIONS:
        raise bad_request(f"propagationPolicy must be one of {', '.join(_PROPAGATIONS)}")
    return cast("Propagation", found)


def _addressed(obj: Object, call: Call) -> Object:
    """The sent object with the namespace and name of the path, which it must not contradict."""
    metadata = obj.get("metadata")
    _require_object(metadata, "metadata")
    addressed: dict[str, Any] = dict(metadata or {})
    for field, value in (("namespace", call.key.namespace), ("name", call.key.name)):
        given = addressed.get(field)
        if not isinstance(given, str | None):
            raise bad_request(f"metadata.{field} must be text")
        if value and given and given != value:
            raise bad_request(f"the {field} of the object ({given}) is not the {field} in the path ({value})")
        if value:
            addressed[field] = value
    return {**obj, "metadata": addressed}


def _require_object(value: Any, name: str) -> None:
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object")


def _merges(patch: Any) -> bool:
    """Whether a strategic merge patch means what a merge patch means: no lists, no directives."""
    if isinstance(patch, dict):
        return all(not name.startswith("$") and _merges(value) for name, value in patch.items())
    return not isinstance(patch, list)
