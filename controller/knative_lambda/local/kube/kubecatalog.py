"""What the local Kubernetes API serves, and what people call it. Called by kubeapi for every request.

The kinds are those of the memory cluster; their short names, categories and columns come from their
CustomResourceDefinitions, and for the others from the table here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import NotFound, Object
from knative_lambda.cluster.definitions import Definition
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.local.kube import kubeevents

ALL_VERBS = ("create", "delete", "get", "list", "patch", "update", "watch")
READ_AND_DELETE = ("delete", "get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`, beside the name."""

    name: str
    path: str
    """JSONPath."""
    type: str = "string"
    priority: int = 0
    """Above 0 it is shown by `-o wide` only."""


AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, slots=True)
class Names:
    """What people may write for a kind, and see of it."""

    singular: str
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (AGE,)


def unchanged(obj: Object) -> Object:
    return obj


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as it is served: `kind` stands in the path, the objects are those of `definition.kind`."""

    kind: Kind
    definition: Definition
    selectable: frozenset[str]
    verbs: tuple[str, ...] = ALL_VERBS
    shown: Callable[[Object], Object] = unchanged
    """From a stored object to a served one."""

    @property
    def is_view(self) -> bool:
        return self.kind != self.definition.kind


class Catalog:
    """The kinds of one memory cluster, as they are at the moment."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    def resources(self) -> list[Resource]:
        return [resource for definition in self._cluster.installed() for resource in _served(definition)]

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        for resource in self.resources():
            if (resource.kind.group, resource.kind.version, resource.kind.plural) == (group, version, plural):
                return resource
        return None

    async def names(self, kind: Kind) -> Names:
        key = Key("", f"{kind.plural}.{kind.group}")
        try:
            crd = await self._cluster.get(kinds.CUSTOM_RESOURCE_DEFINITION, key)
        except NotFound:
            return _NAMES.get(kind) or Names(kind.kind.lower())
        return _of_crd(crd, kind)


def _served(definition: Definition) -> Iterator[Resource]:
    yield Resource(definition.kind, definition, definition.selectable)
    if definition.kind == kinds.EVENT:
        # kubectl describe and kubectl get events ask for the older form of Events.
        yield Resource(kubeevents.CORE_EVENT, definition, kubeevents.SELECTABLE, READ_AND_DELETE, kubeevents.core_event)


def _of_crd(crd: Object, kind: Kind) -> Names:
    names = crd["spec"]["names"]
    version: Object = next((one for one in crd["spec"]["versions"] if one["name"] == kind.version), {})
    columns = tuple(
        Column(one["name"], one["jsonPath"], one["type"], one.get("priority", 0))
        for one in version.get("additionalPrinterColumns", ())
    )
    return Names(
        names.get("singular") or kind.kind.lower(),
        tuple(names.get("shortNames", ())),
        tuple(names.get("categories", ())),
        columns or (AGE,),
    )


_READY = '.status.conditions[?(@.type=="Ready")].'
_READINESS = (Column("Age", AGE.path, "date"), Column("Ready", f"{_READY}status"), Column("Reason", f"{_READY}reason"))
_EVENT_COLUMNS = (Column("Type", ".type"), Column("Reason", ".reason"))
_NAMES: dict[Kind, Names] = {
    kinds.POD: Names("pod", ("po",), ("all",), (Column("Status", ".status.phase"), AGE)),
    kinds.JOB: Names(
        "job",
        categories=("all",),
        columns=(
            Column("Complete", '.status.conditions[?(@.type=="Complete")].status'),
            Column("Failed", '.status.conditions[?(@.type=="Failed")].status'),
            AGE,
        ),
    ),
    kinds.NAMESPACE: Names("namespace", ("ns",), columns=(Column("Status", ".status.phase"), AGE)),
    kinds.SECRET: Names("secret", columns=(Column("Type", ".type"), AGE)),
    kinds.CONFIG_MAP: Names("configmap", ("cm",)),
    kinds.LEASE: Names("lease", columns=(Column("Holder", ".spec.holderIdentity"), AGE)),
    kinds.CUSTOM_RESOURCE_DEFINITION: Names("customresourcedefinition", ("crd", "crds"), ("api-extensions",)),
    kinds.EVENT: Names("event", columns=(*_EVENT_COLUMNS, Column("Note", ".note"), AGE)),
    kubeevents.CORE_EVENT: Names(
        "event",
        ("ev",),
        columns=(
            Column("Last Seen", ".lastTimestamp", "date"),
            *_EVENT_COLUMNS,
            Column("Object", ".involvedObject.name"),
            Column("Message", ".message"),
        ),
    ),
    kinds.SERVICE: Names(
        "service",
        ("kservice", "ksvc"),
        ("all", "knative", "serving"),
        (
            Column("URL", ".status.url"),
            Column("LatestCreated", ".status.latestCreatedRevisionName"),
            Column("LatestReady", ".status.latestReadyRevisionName"),
            *_READINESS[1:],
        ),
    ),
    kinds.TRIGGER: Names(
        "trigger",
        categories=("all", "knative", "eventing"),
        columns=(Column("Broker", ".spec.broker"), Column("Subscriber_URI", ".status.subscriberUri"), *_READINESS),
    ),
    kinds.BROKER: Names(
        "broker",
        categories=("all", "knative", "eventing"),
        columns=(Column("URL", ".status.address.url"), *_READINESS),
    ),
}
"""As in Kubernetes and Knative, as far as the memory cluster knows the values."""
