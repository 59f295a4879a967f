"""What a cluster knows of the functions whose letters are looked for. Reads only. Called by `kn-lambda dlq`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from knative_lambda.api import kinds
from knative_lambda.api.conditions import ConditionType
from knative_lambda.api.meta import Key
from knative_lambda.cli.clusters import Site
from knative_lambda.cli.failures import Fault
from knative_lambda.cluster.base import Cluster, ClusterError, Forbidden, NotFound, Object, Selection

T = TypeVar("T")


def ask(site: Site, question: Callable[[Cluster], Awaitable[T]], *, instead: str) -> T:
    """The answer. Raises Fault, which ends with what a person can do `instead` of asking a cluster."""
    try:
        return site.ask(question)
    except ClusterError as error:
        raise Fault(f"{error.message}; {instead}") from error


@dataclass(frozen=True, slots=True)
class Listening:
    """A function with triggers, and what its condition DLQReady says."""

    key: Key
    status: str = ""
    """True, False, Unknown; empty when there is no such condition."""
    reason: str = ""
    message: str = ""


async def listening(cluster: Cluster, namespace: str | None) -> list[Listening]:
    """Every function with triggers, of one namespace or of all of them, by name. Raises ClusterError."""
    found: list[Listening] = []
    selection, token = Selection(namespace=namespace), ""
    while True:
        try:
            page = await cluster.list(kinds.LAMBDA_FUNCTION, selection, continue_token=token)
        except Forbidden as error:
            raise Forbidden(error.message + ("" if namespace else "; ask for one namespace, with -n")) from error
        found += [_listening(item) for item in page.items if (item.get("spec") or {}).get("triggers")]
        token = page.continue_token
        if not token:
            return sorted(found, key=lambda one: one.key)


async def url(cluster: Cluster, key: Key) -> str:
    """Where the function answers. Raises Fault when there is no such function or it has no address, ClusterError."""
    try:
        fn = await cluster.get(kinds.LAMBDA_FUNCTION, key)
    except NotFound as error:
        raise Fault(f"{error.message}; say where its letters shall go: --to URL") from error
    found = str((fn.get("status") or {}).get("url") or "")
    if not found:
        ready = _condition(fn, ConditionType.READY)
        said = f" (Ready is {ready['status']}: {ready.get('reason', '')})" if ready else ""
        raise Fault(f"function {key} has no URL yet{said}; wait until it is Ready, or say where: --to URL")
    return found


def _listening(fn: Object) -> Listening:
    metadata = fn["metadata"]
    row = _condition(fn, ConditionType.DLQ_READY)
    return Listening(
        Key(metadata["namespace"], metadata["name"]),
        *(str(row.get(name, "")) for name in ("status", "reason", "message")),
    )


def _condition(fn: Object, kind: ConditionType) -> dict[str, Any]:
    rows = (fn.get("status") or {}).get("conditions") or ()
    found: dict[str, Any] = next((row for row in rows if row.get("type") == kind), {})
    return found
