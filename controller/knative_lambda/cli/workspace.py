"""Functions as they lie on disk: what `kn-lambda validate`, `render` and `diff` are pointed at.

A path is looked at as the controller would look at the repository that it lies in, so that names, links and watched
paths mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import ValidationError

from knative_lambda.api import kinds, repository
from knative_lambda.api.meta import API_VERSION
from knative_lambda.api.repository import Finding, FunctionRepository
from knative_lambda.cli.failures import FAULT, Fault
from knative_lambda.cli.output import console, printable
from knative_lambda.gitsync import discovery, document
from knative_lambda.gitsync.discovery import FUNCTION_FILES, Limits
from knative_lambda.gitsync.document import DocumentError
from knative_lambda.gitsync.tree import DirectoryTree, Mode
from knative_lambda.gitsync.validation import Place, finding

if TYPE_CHECKING:
    from knative_lambda.gitsync.declared import Declared

_REPOSITORY = re.compile(rb"(?m)^\s*[\"']?kind[\"']?\s*:\s*[\"']?FunctionRepository\b")
_SUFFIXES = (".yaml", ".yml")
LIMITS = Limits(findings=10_000)


@dataclass(frozen=True, slots=True)
class Repository:
    """A valid FunctionRepository manifest."""

    name: str
    file: str
    manifest: FunctionRepository


@dataclass(frozen=True, slots=True)
class Workspace:
    """What lies at one path of the command line."""

    root: Path
    """Root of the repository; the files of functions and findings are relative to it."""
    tree: DirectoryTree
    functions: tuple[Declared, ...]
    findings: tuple[Finding, ...]
    repositories: tuple[Repository, ...]

    def shown(self, file: str) -> str:
        """A file as the person at the keyboard would write it: relative where that is shorter to read."""
        path = self.root / file
        here = Path.cwd()
        return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

    def lines(self) -> list[str]:
        """The findings as file:line: pointer: message, which editors can jump to."""
        return [printable(str(one.model_copy(update={"file": self.shown(one.file)}))) for one in self.findings]


def read(path: Path, *, root: Path | None = None) -> Workspace:
    """Everything below a directory, or in one file. Faults when the path is not there or holds no function.

    `root` is the repository's; the nearest directory above with a .git when not given, else the directory itself.
    """
    if not path.exists():
        raise Fault(f"{path}: no such file or directory")
    place = path.resolve()
    base = _root(place) if root is None else root.resolve()
    if not place.is_relative_to(base):
        raise Fault(f"{path} does not lie in {base}; give another --root")
    inside = place.relative_to(base).as_posix()
    found = _select(DirectoryTree(base), "" if inside == "." else inside, is_file=place.is_file(), root=base)
    if not (found.functions or found.findings or found.repositories):
        raise Fault(
            f"{path} holds no function: there is no function.yaml, no LambdaFunction and no FunctionRepository manifest"
        )
    return found


def refuse_findings(found: Sequence[Workspace]) -> None:
    """Ends a command that needs valid functions: the findings go to stderr."""
    lines = [line for one in found for line in one.lines()]
    out = console(stderr=True)
    for line in lines:
        out.print(line)
    if lines:
        raise typer.Exit(FAULT)


def repositories(found: Workspace) -> tuple[Repository, ...]:
    """Every valid FunctionRepository manifest of the repository that a workspace lies in."""
    return _repositories(found.tree, "")[0]


def _root(path: Path) -> Path:
    """The repository that a path lies in; without git, a function's directory lies in its parent."""
    directory = path if path.is_dir() else path.parent
    for candidate in (directory, *directory.parents):
        if (candidate / ".git").exists():
            return candidate
    is_function = any((directory / name).is_file() for name in FUNCTION_FILES)
    return directory.parent if is_function else directory


def _select(tree: DirectoryTree, inside: str, *, is_file: bool, root: Path) -> Workspace:
    """The whole of a directory; of a file, only what it says itself."""
    directory = inside.rpartition("/")[0] if is_file else inside
    found = discovery.discover(tree, path=directory, limits=LIMITS)
    repositories, wrong = _repositories(tree, directory)
    functions, findings = found.functions, (*found.findings, *wrong)
    if is_file:
        functions = tuple(one for one in functions if one.file == inside)
        findings = tuple(one for one in findings if one.file == inside)
        repositories = tuple(one for one in repositories if one.file == inside)
    ordered = tuple(sorted(findings, key=lambda one: (one.file, one.line or 0, one.pointer)))
    return Workspace(root, tree, functions, ordered, repositories)


def _repositories(tree: DirectoryTree, directory: str) -> tuple[tuple[Repository, ...], tuple[Finding, ...]]:
    """Valid FunctionRepository manifests below a directory, and the findings of the others."""
    valid: list[Repository] = []
    wrong: list[Finding] = []
    for entry in tree.entries(directory):
        if entry.mode is Mode.FILE and entry.path.endswith(_SUFFIXES):
            data = tree.read(entry.path, document.SIZE_LIMIT + 1)
            if _REPOSITORY.search(data):
                _check(entry.path, data, valid=valid, wrong=wrong)
    return tuple(valid), tuple(wrong)


def _check(file: str, data: bytes, *, valid: list[Repository], wrong: list[Finding]) -> None:
    """Sorts the manifests of one file into the two lists."""
    try:
        documents = document.parse(data)
    except DocumentError as error:
        wrong.append(finding(file, error.message, line=error.line))
        return
    for one in documents:
        if not _is_repository(one.value):
            continue
        try:
            repo = repository.parse(one.value)
            valid.append(Repository(repo.metadata.name, file, repo))
        except ValidationError as error:
            place = Place(file, one)
            wrong += [place.finding(_words(each), document.pointer(*each["loc"])) for each in error.errors()]


def _is_repository(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("apiVersion") == API_VERSION
        and value.get("kind") == kinds.FUNCTION_REPOSITORY.kind
    )


def _words(error: Mapping[str, Any]) -> str:
    """One error of pydantic in the words of the other findings."""
    name = error["loc"][-1] if error["loc"] else ""
    match error["type"]:
        case "extra_forbidden":
            return f"unknown field {name}"
        case "missing":
            return f"the field {name} is missing"
        case _:
            return str(error["msg"]).removeprefix("Value error, ")
