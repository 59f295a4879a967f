"""`kn-lambda events`: what happened to functions and repositories. Reads only."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from knative_lambda.cli import clusters, completion
from knative_lambda.cli.failures import Fault
from knative_lambda.cli.output import Form, Output, console, printable, write_json, write_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knative_lambda.cli.notices import Notice
    from knative_lambda.cluster.base import Cluster, Selection

_WORDS = {"LambdaFunction": "function", "FunctionRepository": "repository"}


def events(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Only of the function or repository of that name.",
            autocompletion=completion.functions,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    namespace: clusters.Namespace = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    kubeconfig: clusters.Kubeconfig = None,
    context: clusters.Context = None,
    local: clusters.Local = False,
    state_dir: clusters.StateDir = None,
    output: Output = Form.TEXT,
) -> None:
    """Show the Kubernetes Events of functions and repositories, the oldest first: what happened, and why.

    A cluster keeps them for an hour, commonly. With -f, json is one document a line.

    \b
    kn-lambda events                         the namespace of the context
    kn-lambda events hello -f                one function, and what comes
    kn-lambda events --local -f              beside kn-lambda dev
    kn-lambda events -A -o json | jq '.[] | select(.type == "Warning")'

    Exit codes: 0 shown, 2 the cluster cannot be asked, 130 interrupted.
    """
    from knative_lambda.cli import notices, seen

    if all_namespaces and (namespace or "/" in (name or "")):
        raise Fault("-A is every namespace: give no other one")
    site = clusters.choose(kubeconfig, context, local=local, state_dir=state_dir)
    asked, wanted = (None if all_namespaces else site.namespace(namespace)), name or ""
    if "/" in wanted:
        asked, wanted = seen.key_of(wanted, "")
    chosen = notices.selections(asked, wanted)
    if follow:
        site.ask(lambda cluster: _follow(cluster, chosen, output))
        return
    found = site.ask(lambda cluster: notices.recent(cluster, chosen))
    if output is Form.JSON:
        write_json([one.told() for one in found])
        return
    if not found:
        console(stderr=True).print("no events")
    for one in found:
        show(one, output)


async def _follow(cluster: Cluster, chosen: Sequence[Selection], output: Form) -> None:
    from knative_lambda.cli import notices
    from knative_lambda.kit.clock import SystemClock

    async with contextlib.aclosing(notices.following(cluster, chosen, clock=SystemClock())) as arriving:
        async for one in arriving:
            show(one, output)


def show(one: Notice, output: Form) -> None:
    """One line, at once."""
    if output is Form.JSON:
        write_line(one.told())
        return
    out = console()
    out.print(line(one), style="yellow" if one.type == "Warning" else None)
    out.file.flush()


def line(one: Notice) -> str:
    """`12:00:01 Warning function shop/hello BuildFailed: why (3 times)`; the time is this machine's."""
    try:
        at = datetime.fromisoformat(one.at).astimezone(UTC).astimezone().strftime("%H:%M:%S")
    except ValueError:
        at = "        "
    kind = _WORDS.get(one.kind, one.kind)
    times = f" ({one.count} times)" if one.count > 1 else ""
    return printable(f"{at} {one.type:<7} {kind} {one.namespace}/{one.name} {one.reason}: {one.note}{times}")
