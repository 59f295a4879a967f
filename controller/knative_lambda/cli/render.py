"""`kn-lambda render`: the manifests that a push would end in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from knative_lambda.cli.failures import FOUND, Fault
from knative_lambda.cli.output import Form, Output, console, write, write_json

if TYPE_CHECKING:
    from knative_lambda.api.repository import FunctionRepository
    from knative_lambda.cli.rendering import Rendered
    from knative_lambda.cli.workspace import Workspace


def render(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Directory of a function or repository, or YAML file.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the functions.")] = "default",
    repository: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="FunctionRepository that follows this; else the only one that lies here."),
    ] = None,
    commit: Annotated[str | None, typer.Option(help="Commit that functions are pinned to; else an example.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings of the controller.")] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Root of the repository; by default the nearest directory with a .git."),
    ] = None,
    output: Output = Form.TEXT,
) -> None:
    """Show what would be made of functions: each with its defaults, its build Job, Knative Service and Triggers.

    Needs no cluster and fetches nothing: where commit, image digest and uid are not known yet, zeros stand for them,
    and the name of the Job, which depends on the commit, is an example.

    \b
    kn-lambda render functions/hello
    kn-lambda render functions/hello --config settings.yaml -n shop
    kn-lambda render . -o json | jq '.items[] | select(.kind == "Service")'

    Exit codes: 0 rendered, 1 the controller would stop at a function, 2 findings, or something could not be read.
    """
    from knative_lambda import settings as configuration
    from knative_lambda.cli import rendering, workspace
    from knative_lambda.wiring import adapters

    found = workspace.read(path, root=root)
    workspace.refuse_findings([found])
    repo = _repository(found, repository)
    chosen = adapters.reconcile_settings(configuration.load(file=config, events="none"))
    pin = commit or rendering.EXAMPLE_COMMIT
    rendered = [
        rendering.render(rendering.bind(fn, repo, namespace=namespace, commit=pin), chosen) for fn in found.functions
    ]
    _show(rendered, output)
    if any(one.problems for one in rendered):
        raise typer.Exit(FOUND)


def _repository(found: Workspace, file: Path | None) -> FunctionRepository | None:
    """The FunctionRepository whose URL and namespace count; None when none is known, or several are."""
    from knative_lambda.cli import workspace

    if file is None:
        known = workspace.repositories(found)
        return known[0].manifest if len(known) == 1 else None
    named = workspace.read(file, root=file.resolve().parent)
    if len(named.repositories) != 1:
        raise Fault(f"{file} does not hold exactly one valid FunctionRepository")
    return named.repositories[0].manifest


def _show(rendered: list[Rendered], output: Form) -> None:
    """Manifests on stdout, so that they can be piped; what the controller would stop at on stderr."""
    from knative_lambda.api import generated

    manifests = [manifest for one in rendered for manifest in (one.fn, *one.children)]
    if output is Form.JSON:
        write_json({"apiVersion": "v1", "kind": "List", "items": manifests})
    else:
        write("---\n".join(generated.manifest_text(manifest) for manifest in manifests))
    out = console(stderr=True)
    for one in rendered:
        for problem in one.problems:
            out.print(f"{one.fn['metadata']['name']}: the controller would stop here: {problem}", style="bold red")
