"""Objects that the tests of the API types begin with, and a way to change one place of one."""

from __future__ import annotations

import copy
from typing import Any

from knative_lambda.api.meta import API_VERSION

Document = dict[str, Any]

GIT = {"type": "git", "git": {"url": "https://git.example.com/functions.git"}}
SOURCES: dict[str, Document] = {
    "minio": {"bucket": "code", "key": "hello.zip"},
    "s3": {"bucket": "code", "key": "hello.zip"},
    "gcs": {"bucket": "code", "key": "hello.zip"},
    "git": {"url": "https://git.example.com/functions.git"},
    "inline": {"code": "def handler(request): return 'hi'"},
    "image": {"uri": "ghcr.io/me/hello@sha256:" + "0" * 64},
}


def function(**spec: Any) -> Document:
    """A valid LambdaFunction, with these fields of its spec replaced."""
    whole = {"source": GIT, "runtime": {"language": "python"}, **spec}
    metadata = {"name": "hello", "namespace": "shop"}
    return copy.deepcopy({"apiVersion": API_VERSION, "kind": "LambdaFunction", "metadata": metadata, "spec": whole})


def repository(**spec: Any) -> Document:
    """A valid FunctionRepository, with these fields of its spec replaced."""
    whole = {"url": "https://git.example.com/functions.git", **spec}
    metadata = {"name": "functions", "namespace": "shop"}
    return copy.deepcopy({"apiVersion": API_VERSION, "kind": "FunctionRepository", "metadata": metadata, "spec": whole})


def at(document: Document, path: str, value: Any) -> Document:
    """A copy with one place changed; `spec.env.0.name` goes through lists too."""
    changed = copy.deepcopy(document)
    *way, last = path.split(".")
    node: Any = changed
    for step in way:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    return changed


def place(document: Document, path: str) -> Any:
    """What stands at a path; KeyError when nothing does."""
    node: Any = document
    for step in path.split("."):
        node = node[int(step)] if isinstance(node, list) else node[step]
    return node
