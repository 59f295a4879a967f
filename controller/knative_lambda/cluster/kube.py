"""A real API server as a Cluster. The `kubernetes` package finds it and its credentials; transport speaks to it.

Made by wiring through `KubeCluster.connect`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from ssl import SSLContext
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import structlog

from knative_lambda.api import kinds
from knative_lambda.api.meta import FIELD_MANAGER, Key, Kind
from knative_lambda.cluster import errors, paths
from knative_lambda.cluster.base import (
    EVERYTHING,
    EventKind,
    Invalid,
    KindNotInstalled,
    Object,
    Page,
    Propagation,
    Selection,
    Unavailable,
    WatchEvent,
)
from knative_lambda.cluster.counts import RequestCounts
from knative_lambda.cluster.transport import Call, Endpoint, Transport, Tuning, write_always
from knative_lambda.kit import redact
from knative_lambda.kit.clock import Clock

_log = structlog.get_logger(__name__)
_APPLY_PATCH = "application/apply-patch+yaml"
"""JSON is YAML; older servers know no apply-patch+json."""
_EVENT_TYPES = frozenset(EventKind)
_DISCOVERY_SECONDS = 10.0
_CREDENTIALS_SECONDS = 60.0
_RENEW_PAUSE = 5.0
_PLUGIN_SECONDS = 30.0
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_STRICT = "fieldValidation=Strict"
"""A field that the server does not know would be dropped silently, and applied again for ever."""


class KubeCluster:
    """The port `Cluster` over HTTPS. Lists and watches come without managedFields, list items with their kind."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        clock: Clock,
        tuning: Tuning = Tuning(),  # noqa: B008 - frozen
        before_write: Callable[[Kind], None] = write_always,
    ) -> None:
        """`before_write` is asked at the last moment before each write leaves and may raise (WriteFenced)."""
        self._transport = Transport(endpoint, clock=clock, tuning=tuning, before_write=before_write)
        self._clock = clock
        self._discovered: dict[str, tuple[float, frozenset[str]]] = {}

    @classmethod
    async def connect(
        cls,
        *,
        clock: Clock,
        kubeconfig: Path | None = None,
        context: str | None = None,
        tuning: Tuning = Tuning(),  # noqa: B008 - frozen
        before_write: Callable[[Kind], None] = write_always,
    ) -> KubeCluster:
        """By that kubeconfig file; without one, as the Pod we run in; outside a Pod, by $KUBECONFIG or ~/.kube/config.

        Raises Invalid when there is no usable configuration. Asks the server nothing.
        """
        endpoint = await _endpoint(kubeconfig, context, clock=clock)
        return cls(endpoint, clock=clock, tuning=tuning, before_write=before_write)

    @property
    def counts(self) -> RequestCounts:
        return self._transport.counts

    async def get(self, kind: Kind, key: Key) -> Object:
        return await self._object(_call("get", kind, key))

    async def list(
        self, kind: Kind, selection: Selection = EVERYTHING, *, limit: int = 500, continue_token: str = ""
    ) -> Page:
        more = {"continue": continue_token} if continue_token else {}
        query = paths.query(selection, limit=str(limit), **more)
        answer = await self._json(_listing("list", kind, selection, query))
        items = [_listed(item, kind) for item in answer.get("items") or ()]
        metadata = answer.get("metadata") or {}
        return Page(items, metadata.get("resourceVersion", ""), metadata.get("continue", ""))

    async def watch(
        self, kind: Kind, selection: Selection = EVERYTHING, *, resource_version: str, seconds: int = 300
    ) -> AsyncIterator[WatchEvent]:
        query = paths.query(
            selection,
            watch="1",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(seconds),
        )
        call = _listing("watch", kind, selection, query)
        async for line in self._transport.lines(call):
            yield _event(line, call)

    async def log(
        self, pod: Key, *, container: str, follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[bytes]:
        """The port `PodLogs`."""
        asked = {"container": container} | ({"follow": "true"} if follow else {})
        query = urlencode(asked if tail is None else {**asked, "tailLines": str(tail)})
        target = f"{paths.item(kinds.POD, pod, subresource='log')}?{query}"
        call = Call("get_log", kinds.POD, pod, "GET", target, may_be_quiet=follow)
        async with aclosing(self._transport.chunks(call)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def create(self, kind: Kind, obj: Object) -> Object:
        key = paths.key_of(kind, obj)
        query = f"fieldManager={FIELD_MANAGER}&{_STRICT}"
        return await self._object(_call("create", kind, key, query=query, body=_whole(kind, obj)))

    async def apply(self, kind: Kind, obj: Object, *, manager: str = FIELD_MANAGER, force: bool = True) -> Object:
        key = paths.named_key_of(kind, obj)
        query = f"fieldManager={quote(manager, safe='')}&force={'true' if force else 'false'}&{_STRICT}"
        return await self._object(_call("apply", kind, key, query=query, body=_whole(kind, obj)))

    async def patch(self, kind: Kind, key: Key, patch: Object, *, subresource: str = "") -> Object:
        query = f"fieldManager={FIELD_MANAGER}"
        return await self._object(_call("patch", kind, key, query=query, body=patch, subresource=subresource))

    async def replace(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        key = paths.named_key_of(kind, obj)
        if not obj["metadata"].get("resourceVersion"):
            raise Invalid(f"replace {kind} {key}: metadata.resourceVersion must be given")
        query = f"fieldManager={FIELD_MANAGER}"
        body = _whole(kind, obj)
        return await self._object(_call("replace", kind, key, query=query, body=body, subresource=subresource))

    async def delete(
        self, kind: Kind, key: Key, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self._object(_call("delete", kind, key, body=options))

    async def served(self, kind: Kind) -> bool:
        """Discovery of the group and version, remembered for ten seconds."""
        seen = self._discovered.get(kind.api_version)
        if seen is None or self._clock.monotonic() - seen[0] > _DISCOVERY_SECONDS:
            seen = (self._clock.monotonic(), await self._resources(kind))
            self._discovered[kind.api_version] = seen
        return kind.plural in seen[1]

    async def close(self) -> None:
        await self._transport.close()

    async def _resources(self, kind: Kind) -> frozenset[str]:
        try:
            answer = await self._json(Call("discover", kind, None, "GET", paths.root(kind)))
        except KindNotInstalled:
            return frozenset()
        return frozenset(resource["name"] for resource in answer.get("resources") or ())

    async def _object(self, call: Call) -> Object:
        return _stripped(await self._json(call))

    async def _json(self, call: Call) -> Object:
        return _decoded(await self._transport.send(call), call)


# ---- requests ----

_HOW = {
    "get": ("GET", ""),
    "create": ("POST", "application/json"),
    "apply": ("PATCH", _APPLY_PATCH),
    "patch": ("PATCH", "application/merge-patch+json"),
    "replace": ("PUT", "application/json"),
    "delete": ("DELETE", "application/json"),
}
"""Verb -> HTTP method and type of the body."""


def _call(
    verb: str, kind: Kind, key: Key, *, subresource: str = "", query: str = "", body: Object | None = None
) -> Call:
    method, content_type = _HOW[verb]
    target = paths.item(kind, Key(key.namespace, "") if verb == "create" else key, subresource=subresource)
    return Call(
        verb=f"{verb}_{subresource}" if subresource else verb,
        kind=kind,
        key=key,
        method=method,
        target=f"{target}?{query}" if query else target,
        body=None if body is None else _encoded(body, kind, key),
        content_type=content_type,
    )


def _listing(verb: str, kind: Kind, selection: Selection, query: str) -> Call:
    target = f"{paths.collection(kind, selection.namespace or '')}?{query}"
    return Call(verb=verb, kind=kind, key=None, method="GET", target=target)


# ---- objects and bytes ----


def _encoded(body: Object, kind: Kind, key: Key) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise Invalid(f"{kind} {key}: not JSON: {error}") from error


def _decoded(body: bytes, call: Call) -> Object:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unavailable(f"{call.what}: the answer is not JSON ({len(body)} bytes)") from error
    if not isinstance(answer, dict):
        raise Unavailable(f"{call.what}: the answer is not a JSON object")
    return answer


def _stripped(obj: Object) -> Object:
    """Without managedFields, which are as large as the object and read by nobody here."""
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
    return obj


def _listed(item: Object, kind: Kind) -> Object:
    """Built-in lists leave apiVersion and kind out of their items; watches and gets do not."""
    if "kind" not in item:
        item = {"apiVersion": kind.api_version, "kind": kind.kind, **item}
    return _stripped(item)


def _event(line: bytes, call: Call) -> WatchEvent:
    event = _decoded(line, call)
    obj, type_ = event.get("object"), str(event.get("type"))
    if not isinstance(obj, dict):
        raise Unavailable(f"{call.what}: an event without an object")
    if type_ == "ERROR":
        raise errors.from_status(obj, code=_code(obj), what=call.what)
    if type_ not in _EVENT_TYPES:
        raise Unavailable(f"{call.what}: an event of unknown type {type_[:40]!r}")
    return WatchEvent(EventKind(type_), _stripped(obj))


def _code(status: Object) -> int:
    code = status.get("code")
    return code if isinstance(code, int) else 500


def _whole(kind: Kind, obj: Object) -> Object:
    """With apiVersion and kind, which a body needs and the caller has said once already."""
    return obj if "kind" in obj and "apiVersion" in obj else {"apiVersion": kind.api_version, "kind": kind.kind, **obj}


# ---- where the server is: the only part that speaks to the kubernetes package, whose import takes a second ----


async def _endpoint(kubeconfig: Path | None, context: str | None, *, clock: Clock) -> Endpoint:
    """Reads the configuration in the form that the kubernetes package gives it."""
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.client.rest import RESTClientObject

    configuration = Configuration()
    try:
        source = await _source(configuration, kubeconfig, context)
        tls = RESTClientObject(configuration).ssl_context
    except Exception as error:  # the package raises KeyError, TypeError, yaml and ssl errors alike
        raise Invalid(f"cannot use the configuration of the API server: {redact.text(str(error))}") from error
    return Endpoint(
        url=configuration.host.rstrip("/"),
        credentials=_Loaded(source, tls=tls, clock=clock),
        tls=tls if configuration.host.startswith("https") else None,
        server_name=configuration.tls_server_name,
        proxy=configuration.proxy,
    )


async def _source(configuration: Any, kubeconfig: Path | None, context: str | None) -> _Source:
    """Fills the configuration from a kubeconfig, or inside a cluster from the Pod's mount."""
    from kubernetes.aio import config

    if kubeconfig is None and context is None and os.environ.get(_IN_CLUSTER):
        config.load_incluster_config(client_configuration=configuration, try_refresh_token=False)
        return _Source(configuration, None)
    loader = await config.load_kube_config(
        config_file=_kubeconfig_files(kubeconfig),
        context=context,
        client_configuration=configuration,
        persist_config=False,  # renewed tokens stay in memory; the file is its owner's
    )
    source = _Source(configuration, loader)
    if source.by_plugin and not (source.header or configuration.cert_file):
        raise ValueError("the credential plugin of the kubeconfig gave no credentials")  # it has logged why
    return source


def _kubeconfig_files(kubeconfig: Path | None) -> str:
    """Existing files joined as in $KUBECONFIG; the package itself passes over missing ones in silence."""
    path = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG") or "~/.kube/config"
    found = [one for one in path.split(os.pathsep) if one and Path(one).expanduser().is_file()]
    if not found:
        raise FileNotFoundError(f"no kubeconfig at {path}")
    return os.pathsep.join(found)


class _Source:
    """The kubernetes package's configuration and the loader that renews it (None: the Pod's mount)."""

    def __init__(self, configuration: Any, loader: Any) -> None:
        self._configuration = configuration
        self._loader = loader

    @property
    def header(self) -> str:
        return str(self._configuration.api_key.get("BearerToken") or "").strip()

    @property
    def certificate(self) -> tuple[str, str] | None:
        """Files of the client's certificate and key, when it has them."""
        files = (self._configuration.cert_file, self._configuration.key_file)
        return files if files[0] else None

    @property
    def by_plugin(self) -> bool:
        user = getattr(self._loader, "_user", None)
        return user is not None and "exec" in user

    @property
    def expires(self) -> bool:
        """A plugin that names no expiry is only run again after a 401: it may open a browser."""
        return not self.by_plugin or hasattr(self._loader, "exec_plugin_expiry")

    def distrust(self) -> None:
        """What the plugin said of its token's life did not hold."""
        if hasattr(self._loader, "exec_plugin_expiry"):
            del self._loader.exec_plugin_expiry

    async def read(self) -> None:
        """Token files are read again, plugins run when their token is about to expire."""
        from kubernetes.aio import config

        if self._loader is None:
            config.load_incluster_config(client_configuration=self._configuration, try_refresh_token=False)
        else:
            await self._loader.load_and_set(self._configuration)


class _Loaded:
    """Credentials of a kubeconfig or a Pod: read again every minute (tokens rotate), and after a 401."""

    def __init__(self, source: _Source, *, tls: SSLContext, clock: Clock) -> None:
        self._source = source
        self._tls = tls
        self._clock = clock
        self._certificate = source.certificate
        self._read_at = clock.monotonic()
        self._lock = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    def header(self) -> str:
        """Never waits: a token is renewed minutes before it expires, in the background."""
        due = self._clock.monotonic() - self._read_at >= _CREDENTIALS_SECONDS and self._source.expires
        if due and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read(older_than=_CREDENTIALS_SECONDS))
        return self._source.header

    async def renew(self, rejected: str, /) -> bool:
        if self._source.header == rejected:
            await self._read(older_than=_RENEW_PAUSE, distrust=True)
        return self._source.header != rejected

    async def _read(self, *, older_than: float, distrust: bool = False) -> None:
        """Reads once for all who wait; what cannot be read leaves the old value, and the server will refuse it."""
        async with self._lock:
            if self._clock.monotonic() - self._read_at < older_than:
                return
            self._read_at = self._clock.monotonic()
            if distrust:
                self._source.distrust()
            try:
                async with asyncio.timeout(_PLUGIN_SECONDS):
                    await self._source.read()
                self._present_certificate()
            except Exception as error:  # noqa: BLE001 - as in _endpoint; logged, and the server has the last word
                _log.warning("credentials for the API server cannot be renewed", error=redact.text(repr(error)))

    def _present_certificate(self) -> None:
        """New connections show the new client certificate."""
        if self._source.certificate and self._source.certificate != self._certificate:
            self._certificate = self._source.certificate
            self._tls.load_cert_chain(*self._certificate)
