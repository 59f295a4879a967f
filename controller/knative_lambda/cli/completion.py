"""Names of functions for the shell, by `kn-lambda --install-completion`. Called by typer when Tab is pressed."""

from __future__ import annotations

import asyncio
from typing import Any

SECONDS = 2.0
"""A shell that waits longer for a Tab has hung, to who pressed it."""


def functions(ctx: Any, incomplete: str) -> list[str]:
    """Of the place and namespace that the line names so far; nothing when that cannot be asked: a Tab says no error."""
    from knative_lambda.cli import clusters
    from knative_lambda.cli.failures import Fault
    from knative_lambda.cluster.base import ClusterError

    typed = ctx.params
    try:
        site = clusters.choose(
            typed.get("kubeconfig"),
            typed.get("context"),
            local=bool(typed.get("local")),
            state_dir=typed.get("state_dir"),
        )
        found = site.ask(lambda cluster: _names(cluster, site.namespace(typed.get("namespace"))))
    except (Fault, ClusterError, TimeoutError, OSError):
        return []
    return [name for name in found if name.startswith(incomplete)]


async def _names(cluster: Any, namespace: str) -> list[str]:
    from knative_lambda.cli import seen

    async with asyncio.timeout(SECONDS):
        return [fn["metadata"]["name"] for fn in await seen.functions(cluster, namespace)]
