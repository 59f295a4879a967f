"""The Kubernetes REST API over a memory cluster, so that kubectl and every command of ours reach local mode, too.

As far as clients here need it: discovery, reading, watching, server-side apply, merge patches, deletion, tables.
Not there: JSON patches, strategic merges of lists, deletion of whole collections, logs and exec. Mounted by
dev on a TLS listener of its own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from knative_lambda.api.meta import Key
from knative_lambda.cluster import paths
from knative_lambda.cluster.base import ClusterError, Object
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import Clock
from knative_lambda.local.kube import kubediscovery, kubestatus
from knative_lambda.local.kube.kubeaccess import PREFIX, Access
from knative_lambda.local.kube.kubeanswers import failed, json
from knative_lambda.local.kube.kubecatalog import Catalog, Resource
from knative_lambda.local.kube.kubestatus import Refusal, not_found
from knative_lambda.local.kube.kubeverbs import Call, Verbs
from knative_lambda.wiring import http
from knative_lambda.wiring.http import Listener

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SUBRESOURCES = ("", "status")

log = structlog.get_logger(__name__)


def routes(cluster: MemoryCluster, access: Access, *, clock: Clock, prefix: str = PREFIX) -> list[BaseRoute]:
    """For a server of one's own; `KubeApi.serve` also ends watches when it stops."""
    return KubeApi(cluster, access, clock=clock, prefix=prefix).routes()


class KubeApi:
    """One memory cluster as an API server."""

    def __init__(self, cluster: MemoryCluster, access: Access, *, clock: Clock, prefix: str = PREFIX) -> None:
        self._access = access
        self._prefix = prefix
        self._catalog = Catalog(cluster)
        self._verbs = Verbs(cluster, self._catalog, clock=clock)

    def routes(self) -> list[BaseRoute]:
        """Everything below `prefix`, for whoever holds the token of `access`."""
        return [Route(f"{self._prefix}/{{path:path}}", self.answer, methods=_METHODS)]

    async def serve(self, listener: Listener, sock: socket.socket) -> None:
        """Serves on a bound socket until cancelled; running watches end then. Closes the socket."""
        serving = asyncio.ensure_future(http.serve(listener, Starlette(routes=self.routes()), sock))
        try:
            await asyncio.shield(serving)
        finally:
            self._verbs.ending.set()
            serving.cancel()
            await asyncio.wait({serving})

    async def answer(self, request: Request) -> Response:
        """Any request; failures are answered as Status."""
        if not self._access.admits(request.headers.get("authorization", "")):
            answer = failed(kubestatus.status(401, reason="Unauthorized", message="Unauthorized"))
            answer.headers["www-authenticate"] = "Bearer"
            return answer
        try:
            return await self._routed(request)
        except Refusal as refusal:
            return failed(kubestatus.of_refusal(refusal))
        except Exception:  # what nobody foresaw is a Status, too: clients take plain text for a proxy
            log.exception("the local Kubernetes API failed", method=request.method, path=request.url.path)
            return failed(kubestatus.status(500, reason="InternalError", message="internal error; see the log"))

    async def _routed(self, request: Request) -> Response:
        match segments(request, self._prefix):
            case ["api", version, *rest] if rest:
                return await self._resource(request, _Place.parse("", version, rest))
            case ["apis", group, version, *rest] if rest:
                return await self._resource(request, _Place.parse(group, version, rest))
            case ["healthz" | "livez" | "readyz"]:
                return PlainTextResponse("ok")
            case found if request.method in ("GET", "HEAD"):
                return json(await self._discovery(found))
        raise not_found()

    async def _discovery(self, path: Sequence[str]) -> Object:
        resources = self._catalog.resources()
        match path:
            case ["version"]:
                return kubediscovery.version()
            case ["api"]:
                return kubediscovery.core_versions()
            case ["apis"]:
                return kubediscovery.groups(resources)
            case ["apis", group]:
                return kubediscovery.group(_some(one for one in resources if one.kind.group == group), group)
            case ["openapi", "v3", *root]:
                return self._openapi(root, resources)
            case [_, *group_version]:
                named = [(one, await self._catalog.names(one.kind)) for one in _below(path, resources)]
                return kubediscovery.resource_list("/".join(group_version), named)
        raise not_found()

    def _openapi(self, root: Sequence[str], resources: Sequence[Resource]) -> Object:
        if not root:
            return kubediscovery.documents(resources, self._prefix)
        return kubediscovery.document(_below(root, resources))

    async def _resource(self, request: Request, place: _Place) -> Response:
        """A request for one resource; what the cluster says against it is answered in its name."""
        resource = self._catalog.find(place.group, place.version, place.plural)
        if resource is None or not place.fits(resource):
            raise not_found()
        call = Call(request, resource, place.key, place.subresource)
        try:
            return await self._verbs.of(call)(call)
        except ClusterError as error:
            return failed(kubestatus.of_error(error, resource.kind, place.key.name))


@dataclass(frozen=True, slots=True)
class _Place:
    """What stands in the path behind /api or /apis."""

    group: str
    version: str
    plural: str
    key: Key
    subresource: str

    @classmethod
    def parse(cls, group: str, version: str, rest: Sequence[str]) -> _Place:
        """`[namespaces/NAMESPACE/]PLURAL[/NAME[/SUBRESOURCE]]`; raises Refusal for what is longer."""
        namespace = ""
        match rest:
            case ["namespaces", _]:
                pass
            case ["namespaces", _, subresource] if not group and subresource in _SUBRESOURCES:
                pass
            case ["namespaces", namespace, *rest]:
                pass
        plural, name, subresource = [*rest, "", "", ""][:3]
        if len(rest) > 3 or not plural or subresource not in _SUBRESOURCES:
            raise not_found()
        return cls(group, version, plural, Key(namespace, name), subresource)

    def fits(self, resource: Resource) -> bool:
        """One object of a namespaced kind is in a namespace, and no other kind is."""
        namespaced = resource.kind.namespaced
        if self.subresource and not resource.definition.has_status:
            return False
        return bool(self.key.namespace) <= namespaced and (
            bool(self.key.namespace) or not (namespaced and self.key.name)
        )


def segments(request: Request, prefix: str) -> list[str]:
    """The path behind the prefix. Split before it is unquoted: a quoted slash is part of a name."""
    raw: bytes = request.scope["raw_path"]
    path = raw.decode("ascii", "replace").removeprefix(prefix).strip("/")
    return [unquote(part) for part in path.split("/")]


def _below(root: Sequence[str], resources: Iterable[Resource]) -> list[Resource]:
    """The resources of one group and version, by the path of their discovery."""
    return _some(one for one in resources if paths.root(one.kind) == "/" + "/".join(root))


def _some(resources: Iterable[Resource]) -> list[Resource]:
    found = list(resources)
    if not found:
        raise not_found()
    return found
