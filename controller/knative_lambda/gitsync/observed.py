"""What is kept of each FunctionRepository that an informer sees. Made by project_repository, read by loop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from knative_lambda.api import meta
from knative_lambda.api.meta import Key
from knative_lambda.api.repository import FunctionRepository, RepositoryStatus, hook_path
from knative_lambda.api.repository import parse as parse_repository
from knative_lambda.kit import digest
from knative_lambda.resources.observed import FunctionSeen

REPOSITORY_INDEX = "repository"
"""Name of the index that finds a repository's functions."""
HOOK_INDEX = "webhook"
"""Name of the index that finds a repository by the path that its forge calls."""


@dataclass(frozen=True, slots=True)
class WebhookSeen:
    """What a receiver needs of a repository with spec.webhook, without parsing it."""

    path: str
    """Path of the URL that the forge calls."""
    secret: str
    """Name of the Secret."""
    suspended: bool
    branch: str
    tag: str
    commit: str
    directory: str
    """spec.path."""
    settled: str
    """Commit at which the last sync ended with everything applied and nothing found; empty if it did not."""


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
    webhook: WebhookSeen | None = None
    """None without spec.webhook."""

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
        webhook=_webhook(obj),
    )


def _webhook(obj: dict[str, Any]) -> WebhookSeen | None:
    spec, metadata = _object(obj.get("spec")), obj["metadata"]
    secret = _object(_object(spec.get("webhook")).get("secretRef")).get("name")
    if not secret:
        return None
    ref = _object(spec.get("ref"))
    return WebhookSeen(
        path=hook_path(metadata["uid"], Key(metadata.get("namespace", ""), metadata["name"])),
        secret=str(secret),
        suspended=spec.get("suspend") is True,
        branch=str(ref.get("branch") or ""),
        tag=str(ref.get("tag") or ""),
        commit=str(ref.get("commit") or ""),
        directory=str(spec.get("path") or "").strip("/"),
        settled=_settled(_object(obj.get("status")), metadata.get("generation", 0)),
    )


def _settled(status: dict[str, Any], generation: int) -> str:
    revision = status.get("observedRevision")
    if status.get("findings") or status.get("observedGeneration") != generation:
        return ""
    return str(revision).rpartition("@")[2] if revision and revision == status.get("appliedRevision") else ""


def _object(value: Any) -> dict[str, Any]:
    """Tolerates what another release may have stored."""
    return value if isinstance(value, dict) else {}


def by_hook(repo: RepositorySeen) -> Iterable[str]:
    """The indexer behind HOOK_INDEX."""
    return () if repo.webhook is None else (repo.webhook.path,)


def by_repository(fn: FunctionSeen) -> Iterable[Key]:
    """The indexer behind REPOSITORY_INDEX, for the store of functions."""
    return () if fn.repository is None else (fn.repository,)


def version(text: str) -> int:
    """A resourceVersion as a number: versions of one kind are ordered (Kubernetes KEP 5504)."""
    return int(text) if text.isdigit() else 0
