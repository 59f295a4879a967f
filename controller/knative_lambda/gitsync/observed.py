"""What is kept of each FunctionRepository that an informer sees. Made by project_repository, read by loop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from knative_lambda.api import meta
from knative_lambda.api.meta import Key
from knative_lambda.api.repository import FunctionRepository, RepositoryStatus
from knative_lambda.api.repository import parse as parse_repository
from knative_lambda.kit import digest
from knative_lambda.resources.observed import FunctionSeen

REPOSITORY_INDEX = "repository"
"""Name of the index that finds a repository's functions."""


@dataclass(frozen=True, slots=True)
class RepositorySeen:
    """A FunctionRepository in the cache, parsed only when it is looked at: its inventory may be long."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    finalizers: tuple[str, ...]
    reconcile_requested: str
    """Value of the annotation that asks for a look."""
    prune_allowed: str
    """The revision for which the mass-delete guard is lifted."""
    raw: bytes
    """The object as JSON, without managedFields."""

    @property
    def asks(self) -> str:
        """Changes whenever a person asked for something; our own status writes leave it."""
        return digest.short(
            self.uid, self.generation, self.deleting, self.finalizers, self.reconcile_requested, self.prune_allowed
        )

    def parse(self) -> FunctionRepository:
        """The typed object; raises pydantic.ValidationError when another release stored something else."""
        return parse_repository(orjson.loads(self.raw))

    def status(self) -> RepositoryStatus:
        """The status alone, for an object whose spec cannot be parsed."""
        return RepositoryStatus.model_validate(orjson.loads(self.raw).get("status", {}))


def project_repository(obj: dict[str, Any]) -> RepositorySeen:
    """Keeps a FunctionRepository."""
    metadata = obj["metadata"]
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations", {})
    return RepositorySeen(
        key=Key(metadata.get("namespace", ""), metadata["name"]),
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers", ())),
        reconcile_requested=annotations.get(meta.ANNOTATION_RECONCILE, ""),
        prune_allowed=annotations.get(meta.ANNOTATION_ALLOW_PRUNE, ""),
        raw=orjson.dumps(obj),
    )


def by_repository(fn: FunctionSeen) -> Iterable[Key]:
    """The indexer behind REPOSITORY_INDEX, for the store of functions."""
    return () if fn.repository is None else (fn.repository,)


def version(text: str) -> int:
    """A resourceVersion as a number: versions of one kind are ordered (Kubernetes KEP 5504)."""
    return int(text) if text.isdigit() else 0
