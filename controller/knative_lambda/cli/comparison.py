"""Declared functions beside those of a cluster, as text that can be compared line by line. Called by `kn-lambda diff`.

Both sides are brought to one form: defaults filled in, fields in one order, and of the source of a function that
stands beside its code only what the repository decides, for URL and commit are filled in by a FunctionRepository.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from knative_lambda.api import function, kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Cluster, KindNotInstalled, Object, Selection

if TYPE_CHECKING:
    from knative_lambda.gitsync.declared import Declared


@dataclass(frozen=True, slots=True)
class Difference:
    """One function whose two sides are not equal."""

    key: Key
    file: str
    change: str
    """`create` or `update`."""
    lines: tuple[str, ...]
    """A unified diff from the cluster's to the file's, without line ends."""


async def stored(cluster: Cluster, namespace: str) -> dict[str, Object]:
    """Name -> LambdaFunction of a namespace, in pages; raises ClusterError."""
    found: dict[str, Object] = {}
    selection, token = Selection(namespace=namespace), ""
    try:
        while True:
            page = await cluster.list(kinds.LAMBDA_FUNCTION, selection, continue_token=token)
            found |= {item["metadata"]["name"]: item for item in page.items}
            token = page.continue_token
            if not token:
                return found
    except KindNotInstalled as error:
        raise KindNotInstalled(
            "the cluster does not know LambdaFunctions; install them: kn-lambda schemas --crds | kubectl apply"
            " --server-side -f -"
        ) from error


def compare(declared: Declared, live: Object | None, *, namespace: str, file: str) -> Difference | None:
    """What an apply of that function would change; None when that is nothing."""
    before = _text(_of_cluster(live, declared)) if live is not None else []
    after = _text(_of_file(declared))
    lines = difflib.unified_diff(
        before, after, fromfile=f"cluster {namespace}/{declared.name}", tofile=file, lineterm=""
    )
    found = tuple(lines)
    if not found:
        return None
    return Difference(Key(namespace, declared.name), file, "create" if live is None else "update", found)


def _of_file(declared: Declared) -> dict[str, Any]:
    sample = declared.sample()
    spec = _complete(sample["spec"])
    if declared.beside:
        spec["source"] = {"type": "git", "git": {"path": declared.path}}
    return _form(declared, labels=declared.labels, annotations=declared.annotations, spec=spec)


def _of_cluster(live: Object, declared: Declared) -> dict[str, Any]:
    """The live object without what others may add to it."""
    spec = _complete(live.get("spec") or {})
    git = spec.get("source", {}).get("git")
    if declared.beside and git is not None:
        spec["source"] = {"type": "git", "git": {"path": git.get("path", "")}}
    metadata = live["metadata"]
    return _form(
        declared,
        labels=_shared(metadata.get("labels"), declared.labels),
        annotations=_shared(metadata.get("annotations"), declared.annotations),
        spec=spec,
    )


def _form(
    declared: Declared, *, labels: dict[str, str], annotations: dict[str, str], spec: dict[str, Any]
) -> dict[str, Any]:
    named = {"labels": labels, "annotations": annotations}
    return {"metadata": {"name": declared.name, **{key: value for key, value in named.items() if value}}, "spec": spec}


def _shared(live: dict[str, str] | None, declared: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in (live or {}).items() if name in declared}


def _complete(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec with its defaults; as it is when this release does not understand it."""
    try:
        parsed = function.FunctionSpec.model_validate(spec)
    except ValidationError:
        return spec
    return parsed.model_dump(mode="json", by_alias=True, exclude_none=True)


def _text(value: dict[str, Any]) -> list[str]:
    text: str = yaml.safe_dump(value, sort_keys=True, allow_unicode=True, width=120)
    return text.splitlines()
