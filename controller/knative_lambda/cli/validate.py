"""`kn-lambda validate`: the checks of the controller, before a push."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knative_lambda.cli.failures import FOUND
from knative_lambda.cli.output import Form, Output, console, write_json

if TYPE_CHECKING:
    from knative_lambda.cli.workspace import Workspace


def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Directories or YAML files.")],
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Root of the repository; by default the nearest directory with a .git."),
    ] = None,
    output: Output = Form.TEXT,
) -> None:
    """Check functions and repositories as the controller would, without a cluster.

    Finds invalid YAML, unknown and wrong fields, missing handler files, links out of the tree, names that are taken
    twice. Each finding is printed as file:line: pointer: message.

    \b
    kn-lambda validate .                           a whole repository
    kn-lambda validate functions/hello             one function
    kn-lambda validate lfn.yaml repository.yaml    manifests
    kn-lambda validate . -o json | jq .findings

    Exit codes: 0 nothing found, 1 findings, 2 a path is not there or holds no function.
    """
    from knative_lambda.cli import workspace

    found = [workspace.read(path, root=root) for path in paths]
    findings = [_finding(one, number) for one in found for number in range(len(one.findings))]
    if output is Form.JSON:
        write_json(
            {
                "functions": [_function(one, number) for one in found for number in range(len(one.functions))],
                "repositories": [
                    {"name": repo.name, "file": one.shown(repo.file)} for one in found for repo in one.repositories
                ],
                "findings": findings,
            }
        )
    else:
        _print(found)
    if findings:
        raise typer.Exit(FOUND)


def _function(found: Workspace, number: int) -> dict[str, Any]:
    one = found.functions[number]
    return {"name": one.name, "file": found.shown(one.file), "line": one.line}


def _finding(found: Workspace, number: int) -> dict[str, Any]:
    return {**found.findings[number].model_dump(), "file": found.shown(found.findings[number].file)}


def _print(found: list[Workspace]) -> None:
    """The findings, then one line that sums up."""
    out = console()
    for one in found:
        for line in one.lines():
            out.print(line)
    functions = sum(len(one.functions) for one in found)
    repositories = sum(len(one.repositories) for one in found)
    findings = sum(len(one.findings) for one in found)
    valid = ", ".join([_count(functions, "function"), *([_count(repositories, "repository")] if repositories else [])])
    style = "bold red" if findings else "bold green"
    out.print(f"{valid} valid, {_count(findings, 'finding')}", style=style)


def _count(number: int, word: str) -> str:
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{number} {word if number == 1 else plural}"
