"""Names that are part of the API: group, labels, annotations, and the identity of an object."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "lambda.knative.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FIELD_MANAGER = "knative-lambda"
"""Owner of the fields that reconciling writes."""
GIT_FIELD_MANAGER = "knative-lambda-git"
"""Owner of the fields that a FunctionRepository writes."""

FINALIZER = f"{GROUP}/finalizer"

LABEL_FUNCTION = f"{GROUP}/function"
"""On every child: the function's name."""
LABEL_COMPONENT = f"{GROUP}/component"
"""On every child: build, service, trigger."""
LABEL_REPOSITORY = f"{GROUP}/repository"
"""On a function that git owns: the FunctionRepository's name."""
LABEL_REPOSITORY_NAMESPACE = f"{GROUP}/repository-namespace"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "knative-lambda"

ANNOTATION_APPLIED = f"{GROUP}/applied-hash"
"""On a child: digest of the manifest as we wanted it when we last applied it."""
ANNOTATION_BUILD = f"{GROUP}/build-digest"
"""On a build Job: the whole identity of the build."""
ANNOTATION_REVISION = f"{GROUP}/source-revision"
"""On a function that git owns: the commit at which its directory last changed."""
ANNOTATION_TREE = f"{GROUP}/source-tree"
"""On a function that git owns: digest of its directory's content (and of build.watchPaths)."""
ANNOTATION_RECONCILE = f"{GROUP}/reconcile-requested-at"
"""Any new value means: look now."""
ANNOTATION_REBUILD = f"{GROUP}/rebuild-requested-at"
"""Any new value means: build again, even if nothing changed."""
ANNOTATION_ALLOW_PRUNE = f"{GROUP}/allow-prune"
"""On a FunctionRepository: the revision for which the mass-delete guard is lifted."""

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_LENGTH = 52
"""DNS-1035, and room for what Knative appends to a Service's name."""


class Key(NamedTuple):
    """Identity of a namespaced object inside one kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API server, as its URL needs it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


class Model(BaseModel):
    """Frozen, camelCase outside, snake_case inside, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, alias_generator=to_camel, use_attribute_docstrings=True
    )


class Seen(BaseModel):
    """Like Model, for what the cluster wrote: fields of a later release are passed over."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, alias_generator=to_camel, use_attribute_docstrings=True
    )


class ObjectMeta(Seen):
    """The part of metadata that this project reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)


def timestamp(moment: datetime) -> str:
    """RFC 3339 with seconds, as Kubernetes writes metav1.Time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def owner_reference(*, kind: Kind, name: str, uid: str) -> dict[str, Any]:
    """A controller reference: the garbage collector removes the child with its owner."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
