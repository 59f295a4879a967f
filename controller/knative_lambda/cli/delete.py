"""`kn-lambda delete`: takes a function away, and says when git would bring it back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knative_lambda.cli import clusters, completion
from knative_lambda.cli.failures import FOUND, Fault
from knative_lambda.cli.output import Form, Output, console, write_json

if TYPE_CHECKING:
    from knative_lambda.api.meta import Key
    from knative_lambda.cluster.base import Cluster, Object


def delete(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Function: NAME or NAMESPACE/NAME.", autocompletion=completion.functions),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can answer.")] = False,
    namespace: clusters.Namespace = None,
    kubeconfig: clusters.Kubeconfig = None,
    context: clusters.Context = None,
    local: clusters.Local = False,
    state_dir: clusters.StateDir = None,
    output: Output = Form.TEXT,
) -> None:
    """Delete a function, with its Knative Service, Triggers and build Jobs. Dead letters and images stay.

    A function that a FunctionRepository owns comes back with its next sync: delete its directory from git instead.

    \b
    kn-lambda delete hello                   asks first
    kn-lambda delete shop/hello --yes        in a script

    Exit codes: 0 it is being deleted, 1 you said no, 2 there is no such function, or nobody could be asked.
    """
    from knative_lambda.cli import seen

    if not yes and not sys.stdin.isatty():
        raise Fault("nobody can be asked here (stdin is no terminal): give --yes to delete the function")
    site = clusters.choose(kubeconfig, context, local=local, state_dir=state_dir)
    key = seen.key_of(name, "" if "/" in name else site.namespace(namespace))
    fn = site.ask(lambda cluster: seen.find(cluster, key))
    owner = seen.repository(fn)
    if owner is not None:
        console(stderr=True).print(_comes_back(key, owner), style="yellow")
    if not yes and not typer.confirm(f"Delete function {key}?", err=True):
        raise typer.Exit(FOUND)
    site.ask(lambda cluster: _delete(cluster, key, fn))
    if output is Form.JSON:
        told: dict[str, Any] = {"namespace": key.namespace, "name": key.name}
        write_json({**told, "deleted": True, "repository": str(owner) if owner else None})
    else:
        console().print(f"function {key} is being deleted")


def _comes_back(key: Key, owner: Key) -> str:
    return (
        f"git owns {key}: repository {owner} makes it again with its next sync."
        " Delete its directory from git instead, and push."
    )


async def _delete(cluster: Cluster, key: Key, fn: Object) -> None:
    """The very one that was looked at: another of that name, made meanwhile, is a Conflict."""
    from knative_lambda.api import kinds
    from knative_lambda.cluster.base import NotFound

    try:
        await cluster.delete(kinds.LAMBDA_FUNCTION, key, uid=fn["metadata"]["uid"])
    except NotFound as error:
        raise Fault(f"function {key} was deleted by somebody else meanwhile") from error
