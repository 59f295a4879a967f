"""What is kept of each object that an informer sees: small, frozen, enough for `decide`.

A project_* function turns an API object into one of these on arrival. Called by wiring through machinery.informer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from knative_lambda.api import meta
from knative_lambda.api.function import LambdaFunction
from knative_lambda.api.function import parse as parse_function
from knative_lambda.api.meta import Key


@dataclass(frozen=True, slots=True)
class FunctionSeen:
    """A LambdaFunction in the cache: parsed only when it is looked at, for 10,000 of them must fit in memory."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    repository: Key | None
    """The FunctionRepository that owns it, by its labels."""
    raw: bytes
    """The object as JSON, without managedFields."""

    def load(self) -> dict[str, Any]:
        """The object as a dict, fresh at every call."""
        loaded: dict[str, Any] = orjson.loads(self.raw)
        return loaded

    def parse(self) -> LambdaFunction:
        """The typed object; raises pydantic.ValidationError when a newer or older release stored something else."""
        return parse_function(self.load())


def project_function(obj: dict[str, Any]) -> FunctionSeen:
    """Keeps a LambdaFunction."""
    metadata = obj["metadata"]
    metadata.pop("managedFields", None)
    labels = metadata.get("labels", {})
    repository = labels.get(meta.LABEL_REPOSITORY)
    namespace = labels.get(meta.LABEL_REPOSITORY_NAMESPACE, metadata.get("namespace", ""))
    return FunctionSeen(
        key=Key(metadata.get("namespace", ""), metadata["name"]),
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        deleting="deletionTimestamp" in metadata,
        repository=Key(namespace, repository) if repository else None,
        raw=orjson.dumps(obj),
    )
