"""Kinds and keys as paths and queries of an API server, quoted. Called by kube."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Invalid, Object, Selection

_PLAIN = re.compile(r"[a-z0-9][-a-z0-9.]*")


@lru_cache(maxsize=256)
def root(kind: Kind) -> str:
    """The path of the kind's group and version, where discovery answers."""
    return f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"


@lru_cache(maxsize=4096)
def collection(kind: Kind, namespace: str) -> str:
    """The path of all objects of a kind, in one namespace or everywhere."""
    if namespace and kind.namespaced:
        return f"{root(kind)}/namespaces/{_quoted(namespace)}/{kind.plural}"
    return f"{root(kind)}/{kind.plural}"


def item(kind: Kind, key: Key, *, subresource: str = "") -> str:
    """The path of one object, or with an empty name of the collection that it will be in."""
    require_namespace(kind, key)
    path = collection(kind, key.namespace)
    if key.name:
        path += f"/{_quoted(key.name)}"
    return f"{path}/{_quoted(subresource)}" if subresource else path


def _quoted(name: str) -> str:
    """Valid names need no quoting; the others must not become another path (`..` can be no name: it is refused)."""
    if _PLAIN.fullmatch(name):
        return name
    if name in (".", ".."):
        raise Invalid(f"{name!r} cannot be a name")
    return quote(name, safe="")


def require_namespace(kind: Kind, key: Key) -> None:
    """Invalid when a namespaced kind comes without one: the path would address something else."""
    if kind.namespaced and not key.namespace:
        raise Invalid(f"{kind} {key.name}: metadata.namespace must be given")


def key_of(kind: Kind, obj: Object) -> Key:
    """The key of an object to be made; its name is empty when the server shall make one from generateName."""
    metadata: dict[str, Any] = obj.get("metadata") or {}
    name = metadata.get("name") or ""
    if not name and not metadata.get("generateName"):
        raise Invalid(f"{kind}: metadata.name or generateName must be given")
    return Key(metadata.get("namespace") or "", name)


def named_key_of(kind: Kind, obj: Object) -> Key:
    """The key of an object that has a name."""
    key = key_of(kind, obj)
    if not key.name:
        raise Invalid(f"{kind}: metadata.name must be given")
    return key


def query(selection: Selection, **parameters: str) -> str:
    """The query string of a list or watch."""
    if selection.labels:
        parameters["labelSelector"] = selection.labels
    if selection.fields:
        parameters["fieldSelector"] = selection.fields
    return urlencode(parameters)
