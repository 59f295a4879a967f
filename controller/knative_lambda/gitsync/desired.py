"""The LambdaFunction that a declared function becomes in one repository. Pure; called by diff and by `kn-lambda`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from knative_lambda.api import meta
from knative_lambda.api.meta import Key
from knative_lambda.api.repository import FunctionRepository
from knative_lambda.gitsync.declared import Declared
from knative_lambda.kit import digest

TREE_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Frame:
    """What a repository adds to each of its functions."""

    repository: Key
    namespace: str
    """Where its functions go."""
    url: str
    ref: str | None
    """Branch or tag; None for the remote's HEAD and for a commit."""
    secret: str | None
    """Secret of the repository, when functions can see it."""

    @classmethod
    def of(cls, repo: FunctionRepository) -> Frame:
        spec = repo.spec
        shared = spec.secret_ref is not None and repo.target_namespace == repo.metadata.namespace
        return cls(
            repository=repo.key,
            namespace=repo.target_namespace,
            url=spec.url,
            ref=spec.ref.branch or spec.ref.tag,
            secret=spec.secret_ref.name if spec.secret_ref and shared else None,
        )

    def tree(self, declared: Declared) -> str:
        """Identity of the content that is built; the repository counts, for a pin means nothing in another one."""
        return digest.short(self.url, declared.tree, length=TREE_LENGTH)


@dataclass(frozen=True, slots=True)
class Desired:
    """A whole desired LambdaFunction. Equal digests mean equal manifests."""

    key: Key
    declared: Declared
    frame: Frame
    tree: str
    commit: str
    """Commit at which the content last changed."""
    digest: str
    manifest: dict[str, Any] = field(repr=False)


def build(declared: Declared, frame: Frame, *, tree: str, commit: str) -> Desired:
    """Binds a declared function to a repository and a commit."""
    annotations = {**declared.annotations, meta.ANNOTATION_REVISION: commit, meta.ANNOTATION_TREE: tree}
    labels = {
        **declared.labels,
        meta.LABEL_REPOSITORY: frame.repository.name,
        meta.LABEL_REPOSITORY_NAMESPACE: frame.repository.namespace,
    }
    spec = {**declared.spec, "source": _source(declared, frame, commit)} if declared.beside else declared.spec
    identity = digest.digest(frame.namespace, declared.name, labels, annotations, spec)
    manifest = {
        "apiVersion": meta.API_VERSION,
        "kind": "LambdaFunction",
        "metadata": {
            "name": declared.name,
            "namespace": frame.namespace,
            "labels": labels,
            # The digest tells a field that left the manifest, which no comparison with the object can see.
            "annotations": {**annotations, meta.ANNOTATION_APPLIED: identity},
            "finalizers": [meta.FINALIZER],
        },
        "spec": spec,
    }
    key = Key(frame.namespace, declared.name)
    return Desired(key, declared, frame, tree, commit, identity, manifest)


def _source(declared: Declared, frame: Frame, commit: str) -> dict[str, Any]:
    git: dict[str, Any] = {"url": frame.url, "commit": commit, "path": declared.path}
    if frame.ref:
        git["ref"] = frame.ref
    if frame.secret:
        git["secretRef"] = {"name": frame.secret}
    return {"type": "git", "git": git}
