"""`kn-lambda describe`: one function, whole: what is asked for, what became of it, and what happened lately."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from knative_lambda.cli import clusters, completion
from knative_lambda.cli.output import Form, Output, columns, console, printable, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knative_lambda.api.meta import Key
    from knative_lambda.cli.description import Description
    from knative_lambda.cli.notices import Notice
    from knative_lambda.cluster.base import Cluster, Object

EVENTS = 10
"""The last ones that people are shown."""


def describe(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Function: NAME or NAMESPACE/NAME.", autocompletion=completion.functions),
    ],
    namespace: clusters.Namespace = None,
    kubeconfig: clusters.Kubeconfig = None,
    context: clusters.Context = None,
    local: clusters.Local = False,
    state_dir: clusters.StateDir = None,
    output: Output = Form.TEXT,
) -> None:
    """Show one function: its spec, conditions with reasons, build, address, triggers, dead letters, last events.

    Values of environment variables are left out of the text.

    \b
    kn-lambda describe hello
    kn-lambda describe shop/hello --context staging
    kn-lambda describe hello --local -o json | jq .conditions

    Exit codes: 0 shown, 2 there is no such function, or the cluster cannot be asked.
    """
    from knative_lambda.cli import description, seen

    site = clusters.choose(kubeconfig, context, local=local, state_dir=state_dir)
    key = seen.key_of(name, "" if "/" in name else site.namespace(namespace))
    fn, happened = site.ask(lambda cluster: _asked(cluster, key))
    described = description.describe(fn)
    if output is Form.JSON:
        write_json({**described.told(), "events": [one.told() for one in happened]})
        return
    for line, style in _text(described, happened, now=datetime.now(UTC)):
        console().print(line, style=style)


async def _asked(cluster: Cluster, key: Key) -> tuple[Object, list[Notice]]:
    from knative_lambda.api import kinds
    from knative_lambda.cli import notices, seen
    from knative_lambda.cluster.base import Forbidden

    fn = await seen.find(cluster, key)
    try:
        return fn, await notices.about(cluster, key, kind=kinds.LAMBDA_FUNCTION)
    except Forbidden:  # many may see functions who may not see Events
        return fn, []


def _text(described: Description, happened: list[Notice], *, now: datetime) -> Iterator[tuple[str, str | None]]:
    from knative_lambda.cli import seen

    for line in seen.lines([(name, _cleared(value)) for name, value in described.pairs(now=now)]):
        yield line, None
    rows = [
        [one.get("type", ""), one.get("status", ""), one.get("reason", ""), one.get("message", "")]
        for one in described.conditions
    ]
    yield "", None
    yield from _table("Conditions", ["TYPE", "STATUS", "REASON", "MESSAGE"], rows)
    told = [
        [
            seen.age(one.at, now=now),
            one.type,
            one.reason,
            one.note + (f" ({one.count} times)" if one.count > 1 else ""),
        ]
        for one in happened[-EVENTS:]
    ]
    yield "", None
    yield from _table("Events", ["AGE", "TYPE", "REASON", "NOTE"], told)


def _cleared(value: str) -> str:
    """Lines stay lines."""
    return "\n".join(printable(line) for line in value.split("\n"))


def _table(title: str, heading: list[str], rows: list[list[str]]) -> Iterator[tuple[str, str | None]]:
    if not rows:
        yield f"{title}: none", None
        return
    yield f"{title}:", "bold"
    for line in columns([heading, *rows]):
        yield f"  {line}", None
