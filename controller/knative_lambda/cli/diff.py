"""`kn-lambda diff`: what a push or an apply would change. Reads only."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from knative_lambda.cli.failures import FOUND
from knative_lambda.cli.output import Form, Output, console, write_json

if TYPE_CHECKING:
    from knative_lambda.cli.comparison import Difference
    from knative_lambda.cli.workspace import Workspace

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def diff(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Directories or YAML files.")],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace; the context's own when not given.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cluster to ask; $KUBECONFIG or ~/.kube/config by default.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Root of the repository; by default the nearest directory with a .git."),
    ] = None,
    output: Output = Form.TEXT,
) -> None:
    """Compare functions on disk with those of a cluster, like kubectl diff. Nothing is written.

    Defaults count as written out. Of a function beside its code, URL and commit are not compared: a FunctionRepository
    fills them in.

    \b
    kn-lambda diff .                                  the whole repository
    kn-lambda diff functions/hello -n shop
    kn-lambda diff lfn.yaml --context staging -o json

    Exit codes: 0 no difference, 1 differences, 2 findings on disk, or the cluster cannot be asked.
    """
    from knative_lambda.cli import kubeconfig as config
    from knative_lambda.cli import workspace

    found = [workspace.read(path, root=root) for path in paths]
    workspace.refuse_findings(found)
    asked = namespace or config.namespace(kubeconfig, context)
    differences = asyncio.run(_differences(found, namespace=asked, kubeconfig=kubeconfig, context=context))
    if output is Form.JSON:
        write_json({"namespace": asked, "differences": [_as_json(one) for one in differences]})
    else:
        _print(differences, count=sum(len(one.functions) for one in found), namespace=asked)
    if differences:
        raise typer.Exit(FOUND)


async def _differences(
    found: list[Workspace], *, namespace: str, kubeconfig: Path | None, context: str | None
) -> list[Difference]:
    from knative_lambda.cli import comparison
    from knative_lambda.cluster.kube import KubeCluster
    from knative_lambda.kit.clock import SystemClock

    cluster = await KubeCluster.connect(clock=SystemClock(), kubeconfig=kubeconfig, context=context)
    try:
        live = await comparison.stored(cluster, namespace)
    finally:
        await cluster.close()
    compared = [
        comparison.compare(fn, live.get(fn.name), namespace=namespace, file=one.shown(fn.file))
        for one in found
        for fn in one.functions
    ]
    return [one for one in compared if one is not None]


def _as_json(one: Difference) -> dict[str, str]:
    return {"name": one.key.name, "file": one.file, "change": one.change, "diff": "\n".join(one.lines)}


def _print(differences: list[Difference], *, count: int, namespace: str) -> None:
    out = console()
    for one in differences:
        for line in one.lines:
            out.print(line, style=_STYLES.get(line[:1]))
    out.print(f"{len(differences)} of {count} functions differ from namespace {namespace}", style="bold")
