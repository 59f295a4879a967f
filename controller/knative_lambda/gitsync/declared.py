"""One function as a revision declares it, before it is bound to a cluster. Made by discovery, read by diff."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

from knative_lambda.api.crd import pruned
from knative_lambda.api.meta import API_VERSION
from knative_lambda.gitsync.document import Document

_EXAMPLE_URL = "https://example.invalid/repository"
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """A valid function. Never changed after it was made; its dicts are shared and read only."""

    name: str
    path: str
    """Directory of the function file, or the manifest file."""
    file: str
    beside: bool
    """Whether the code is the directory of the function file."""
    spec: dict[str, Any] = field(repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    line: int | None = None
    """Where the name stands in the file."""
    tree: str = ""
    """Digest of the content that is built."""

    @classmethod
    def of(cls, document: Document, *, name: str, path: str, file: str) -> Self:
        """From a document that satisfies the schema of function.yaml."""
        value = document.value
        metadata = value.get("metadata", {})
        return cls(
            name=name,
            path=path,
            file=file,
            beside="source" not in value["spec"],
            spec=pruned(value["spec"]),
            labels=metadata.get("labels", {}),
            annotations=metadata.get("annotations", {}),
            line=document.line("/metadata/name"),
        )

    @property
    def watch_paths(self) -> tuple[str, ...]:
        """Further paths whose change rebuilds, without slashes at the ends."""
        return tuple(path.strip("/") for path in self.spec.get("build", {}).get("watchPaths", ()))

    def with_tree(self, tree: str) -> Self:
        return dataclasses.replace(self, tree=tree)

    def sample(self) -> Manifest:
        """A whole object to check the types with; the repository's address is not known here and does not matter."""
        spec = {"source": {"type": "git", "git": {"url": _EXAMPLE_URL}}, **self.spec} if self.beside else self.spec
        metadata = {"name": "name-is-checked-elsewhere", "labels": self.labels, "annotations": self.annotations}
        return {"apiVersion": API_VERSION, "kind": "LambdaFunction", "metadata": metadata, "spec": spec}
