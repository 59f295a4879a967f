"""`kn-lambda init`: a new function's directory. Writes files that are not there, and never over one that is."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from knative_lambda.cli.failures import Fault
from knative_lambda.cli.output import Form, Output, console, write_json

SCHEMA = "function.schema.json"
TEMPLATE = ".template"


class Runtime(StrEnum):
    """Languages with a template."""

    PYTHON = "python"
    NODEJS = "nodejs"
    GO = "go"


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Directory of the function; made when it is not there.")
    ] = Path(),
    runtime: Annotated[Runtime, typer.Option("--runtime", "-r", help="Language of the function.")] = Runtime.PYTHON,
    name: Annotated[str | None, typer.Option(help="Name of the function; the directory's when not given.")] = None,
    output: Output = Form.TEXT,
) -> None:
    """Begin a function: function.yaml, a handler that answers, a README. Nothing that is there is overwritten.

    In a git repository the schema that function.yaml names, for editors, is written once, as
    schemas/function.schema.json; elsewhere beside function.yaml.

    \b
    kn-lambda init functions/hello           a Python function named hello
    kn-lambda init functions/thumbs --runtime nodejs
    kn-lambda init . --name orders           here, not named after the directory

    Exit codes: 0 written, 2 a file is there already, or the name is none.
    """
    chosen = _name(name, directory)
    schema = _schema(directory)
    files = _files(runtime, name=chosen, schema=os.path.relpath(schema, directory))
    contents = {directory / file: text for file, text in files.items()}
    if taken := [str(path) for path in (*contents, directory / "function.yml") if os.path.lexists(path)]:
        raise Fault(f"nothing was written, for {', '.join(taken)} {'is' if len(taken) == 1 else 'are'} there already")
    if not schema.exists():
        contents[schema] = _schema_text()
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    if output is Form.JSON:
        write_json({"name": chosen, "runtime": runtime.value, "files": [str(path) for path in contents]})
        return
    out = console()
    for path in contents:
        out.print(f"wrote {path}")
    out.print(f"next: kn-lambda validate {directory}, then kn-lambda dev {directory}")


def _name(given: str | None, directory: Path) -> str:
    """A name that a function can have. Raises Fault, which proposes one."""
    from knative_lambda.api.function import NAME_RULE
    from knative_lambda.api.meta import NAME_LENGTH, NAME_PATTERN

    name = given if given is not None else directory.resolve().name
    if re.fullmatch(NAME_PATTERN, name) and len(name) <= NAME_LENGTH:
        return name
    close = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:NAME_LENGTH].strip("-")
    proposed = f", for example --name {close}" if close else ""
    raise Fault(f"{name!r} cannot be a function's name ({NAME_RULE}): give one with --name{proposed}")


def _schema(directory: Path) -> Path:
    """Where the schema is, or goes."""
    place = directory.resolve()
    for candidate in (place, *place.parents):
        if (candidate / ".git").exists():
            root = directory / os.path.relpath(candidate, place) if candidate != place else directory
            return Path(os.path.normpath(root)) / "schemas" / SCHEMA
    return directory / SCHEMA


def _schema_text() -> str:
    from knative_lambda.api import generated

    return generated.files()[f"schemas/{SCHEMA}"]


def _files(runtime: Runtime, *, name: str, schema: str) -> dict[str, str]:
    """File name -> text."""
    folder = resources.files("knative_lambda.cli").joinpath("templates", runtime.value)
    templates = sorted((each for each in folder.iterdir() if each.name.endswith(TEMPLATE)), key=lambda each: each.name)
    return {
        each.name.removesuffix(TEMPLATE): each.read_text(encoding="utf-8")
        .replace("{{name}}", name)
        .replace("{{schema}}", Path(schema).as_posix())
        for each in templates
    }
