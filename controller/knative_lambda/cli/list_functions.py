"""`kn-lambda list`: the functions of a namespace, one a line. Reads only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from knative_lambda.cli import clusters
from knative_lambda.cli.failures import Fault
from knative_lambda.cli.output import Form, Output, columns, console, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knative_lambda.cli.seen import Row

_STYLES = {"True": None, "False": "red", "Unknown": "yellow"}


def list_functions(
    namespace: clusters.Namespace = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Functions of every namespace.")
    ] = False,
    kubeconfig: clusters.Kubeconfig = None,
    context: clusters.Context = None,
    local: clusters.Local = False,
    state_dir: clusters.StateDir = None,
    output: Output = Form.TEXT,
) -> None:
    """List functions: whether they are ready, the revision of their source, where they answer.

    \b
    kn-lambda list                           the namespace of the context
    kn-lambda list -n shop
    kn-lambda list -A --context staging
    kn-lambda list --local                   what kn-lambda dev runs
    kn-lambda list -o json | jq -r '.[] | select(.ready != "True") | .name'

    Exit codes: 0 listed, 2 the cluster cannot be asked.
    """
    from knative_lambda.cli import seen

    if all_namespaces and namespace:
        raise Fault("-A is every namespace and -n is one: give one of them")
    site = clusters.choose(kubeconfig, context, local=local, state_dir=state_dir)
    asked = None if all_namespaces else site.namespace(namespace)
    rows = [seen.row(fn) for fn in site.ask(lambda cluster: seen.functions(cluster, asked))]
    if output is Form.JSON:
        write_json([row.told() for row in rows])
        return
    if not rows:
        console(stderr=True).print(f"no functions in {f'namespace {asked}' if asked else 'any namespace'}")
        return
    for line, style in table(rows, now=datetime.now(UTC), with_namespace=asked is None):
        console().print(line, style=style)


def table(rows: list[Row], *, now: datetime, with_namespace: bool) -> Iterator[tuple[str, str | None]]:
    """Lines with their style, the heading first."""
    from knative_lambda.cli import seen

    heading = ["NAME", "READY", "PHASE", "REVISION", "URL", "IMAGE", "AGE"]
    cells = [
        [
            row.key.name,
            row.ready,
            row.phase,
            seen.short_revision(row.revision),
            row.url,
            seen.short_image(row.image),
            seen.age(row.created, now=now),
        ]
        for row in rows
    ]
    if with_namespace:
        heading = ["NAMESPACE", *heading]
        cells = [[row.key.namespace, *each] for row, each in zip(rows, cells, strict=True)]
    first, *lines = columns([heading, *cells])
    yield first, "bold"
    for row, line in zip(rows, lines, strict=True):
        yield line, _STYLES.get(row.ready)
