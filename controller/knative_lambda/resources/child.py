"""What every child carries: labels, the owner, the hash of what we applied; and whose a child is.

Called by the builders beside it, by `observed` and by reconcile.steps.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from knative_lambda.api import kinds, meta
from knative_lambda.api.function import LambdaFunction
from knative_lambda.api.meta import Key, ObjectMeta
from knative_lambda.kit import digest

Manifest = dict[str, Any]

LABEL_FUNCTION_NAMESPACE = f"{meta.GROUP}/function-namespace"
"""On build Jobs and their Pods: they may live in another namespace than their function."""
LABEL_FUNCTION_UID = f"{meta.GROUP}/function-uid"
"""On the same: an owner reference cannot cross namespaces, the uid can."""


class Component(StrEnum):
    """Values of the component label."""

    BUILD = "build"
    SERVICE = "service"
    TRIGGER = "trigger"


BUILD_SELECTOR = f"{meta.LABEL_MANAGED_BY}={meta.MANAGED_BY},{meta.LABEL_COMPONENT}={Component.BUILD.value}"
"""Label selector of build Jobs and their Pods, for the informers."""


class Owner(NamedTuple):
    """The controller reference of an object."""

    group: str
    kind: str
    name: str
    uid: str


class Child(Protocol):
    """What `ownership` must know of an observed child."""

    @property
    def key(self) -> Key: ...

    @property
    def owner(self) -> Owner | None: ...

    @property
    def function_uid(self) -> str: ...


class Ownership(StrEnum):
    """Whose a child is, seen from one function."""

    OURS = "ours"
    PREDECESSOR = "predecessor"
    """Of a deleted function of the same name: the garbage collector is about to take it."""
    FOREIGN = "foreign"


def ownership(child: Child, metadata: ObjectMeta) -> Ownership:
    """Whether the child belongs to the function of that metadata."""
    owner = child.owner
    if owner is None:
        elsewhere = child.key.namespace != metadata.namespace
        return Ownership.OURS if elsewhere and child.function_uid == metadata.uid else Ownership.FOREIGN
    if owner.uid == metadata.uid:
        return Ownership.OURS
    same_name = (owner.group, owner.kind, owner.name) == (meta.GROUP, kinds.LAMBDA_FUNCTION.kind, metadata.name)
    return Ownership.PREDECESSOR if same_name else Ownership.FOREIGN


def labels(fn: LambdaFunction, component: Component) -> dict[str, str]:
    """The labels of a child of that function."""
    return {
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        meta.LABEL_FUNCTION: fn.metadata.name,
        meta.LABEL_COMPONENT: component.value,
    }


def metadata(fn: LambdaFunction, *, name: str, component: Component, namespace: str | None = None) -> Manifest:
    """metadata of a child; owned by reference where that is possible, that is in the function's own namespace."""
    inside = namespace or fn.metadata.namespace
    made: Manifest = {"name": name, "namespace": inside, "labels": labels(fn, component), "annotations": {}}
    if inside == fn.metadata.namespace:
        owner = meta.owner_reference(kind=kinds.LAMBDA_FUNCTION, name=fn.metadata.name, uid=fn.metadata.uid)
        made["ownerReferences"] = [owner]
    return made


def stamp(manifest: Manifest) -> Manifest:
    """The manifest with the digest of itself among its annotations: what differs from the cache is applied."""
    applied = digest.digest(manifest)
    inside = manifest["metadata"]
    annotations = {**inside["annotations"], meta.ANNOTATION_APPLIED: applied}
    return {**manifest, "metadata": {**inside, "annotations": annotations}}


def applied_hash(manifest: Manifest) -> str:
    """The digest that `stamp` wrote."""
    stamped: str = manifest["metadata"]["annotations"][meta.ANNOTATION_APPLIED]
    return stamped
