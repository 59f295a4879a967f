"""`kn-lambda schemas`: the files that are made from the API types, and the check that they are up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from knative_lambda.cli.failures import FOUND, Fault
from knative_lambda.cli.output import Form, Output, write, write_json


def schemas(
    write_to: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write the files below DIR, remove outdated ones.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="DIR", help="Exit 1 when a file below DIR is not up to date.")
    ] = None,
    crds: Annotated[bool, typer.Option("--crds", help="Print the CRDs, for kubectl apply.")] = False,
    output: Output = Form.TEXT,
) -> None:
    """Make JSON Schemas, CRDs and the API reference from the API types.

    Without an option the names of the files are printed; with --output json their contents too.

    \b
    kn-lambda schemas --write .              after a change of the API types
    kn-lambda schemas --check .              in CI
    kn-lambda schemas --crds | kubectl apply --server-side -f -

    Exit codes: 0 up to date, 1 --check found outdated files, 2 wrong usage or a file could not be read.
    """
    from knative_lambda.api import generated

    if sum((write_to is not None, check is not None, crds)) > 1:
        raise Fault("give one of --write, --check and --crds")
    files = generated.files()
    if crds:
        _print_crds(output)
    elif write_to is not None:
        _write(files, below=write_to, output=output)
    elif check is not None:
        _check(files, below=check, output=output)
    elif output is Form.JSON:
        write_json(files)
    else:
        write("".join(f"{name}\n" for name in files))


def _print_crds(output: Form) -> None:
    from knative_lambda.api import crd, generated

    definitions = crd.definitions()
    if output is Form.JSON:
        write_json({"apiVersion": "v1", "kind": "List", "items": definitions})
    else:
        write("---\n".join(generated.yaml_text(definition) for definition in definitions))


def _write(files: dict[str, str], *, below: Path, output: Form) -> None:
    outdated = _outdated(files, below)
    for name in outdated:
        if name in files:
            (below / name).parent.mkdir(parents=True, exist_ok=True)
            (below / name).write_text(files[name], encoding="utf-8")
        else:
            (below / name).unlink()
    if output is Form.JSON:
        write_json({"files": len(files), "changed": outdated})
        return
    changes = [f"{'wrote' if name in files else 'removed'} {name}\n" for name in outdated]
    write("".join(changes) + f"{len(files)} files, {len(outdated)} changed\n")


def _check(files: dict[str, str], *, below: Path, output: Form) -> None:
    if not below.is_dir():
        raise Fault(f"{below} is not a directory")
    outdated = _outdated(files, below)
    if output is Form.JSON:
        write_json({"files": len(files), "outdated": outdated})
    else:
        write("".join(f"outdated: {name}\n" for name in outdated))
        write(f"{len(files)} files, {len(outdated)} outdated{'; run kn-lambda schemas --write' if outdated else ''}\n")
    if outdated:
        raise typer.Exit(FOUND)


def _outdated(files: dict[str, str], below: Path) -> list[str]:
    """Names of files that are missing, differ, or were generated once and are no longer."""
    from knative_lambda.api import generated

    differing = {name for name, text in files.items() if _read(below / name) != text}
    present = {path for folder in generated.FOLDERS for path in (below / folder).rglob("*") if path.is_file()}
    left_over = {
        name
        for path in present
        if (name := path.relative_to(below).as_posix()) not in files and generated.is_ours(_read(path) or "")
    }
    return sorted(differing | left_over)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
