"""The listing of a tree as discovery asks it, and the checks that need it: handler files, links, watched paths."""

from __future__ import annotations

import posixpath
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from knative_lambda.api.function import Language, Runtime
from knative_lambda.api.repository import Finding
from knative_lambda.gitsync.declared import Declared
from knative_lambda.gitsync.tree import Entry, Mode, Tree
from knative_lambda.gitsync.validation import Place

_LINK_LIMIT = 4096
_NODE_SUFFIXES = (".js", ".mjs", ".cjs", ".ts")


@dataclass(frozen=True, slots=True)
class Contents:
    """Every path of one tree, in order."""

    tree: Tree
    by_path: dict[str, Entry]
    ordered: tuple[str, ...]
    root: str

    def id(self, path: str) -> str:
        """Identity of a path's content; empty when nothing is there."""
        if not path:
            return self.root
        entry = self.by_path.get(path)
        return entry.id if entry else ""

    def mode(self, path: str) -> Mode | None:
        entry = self.by_path.get(path)
        return entry.mode if entry else None

    def size(self, path: str) -> int:
        entry = self.by_path.get(path)
        return entry.size if entry else 0

    def is_directory(self, path: str) -> bool:
        return self.mode(path) is Mode.DIRECTORY

    def paths(self, prefix: str) -> Iterator[str]:
        """Every path that starts with a prefix (which ends with `/`, or is empty), directories included."""
        place = bisect_left(self.ordered, prefix)
        while place < len(self.ordered) and self.ordered[place].startswith(prefix):
            yield self.ordered[place]
            place += 1

    def children(self, directory: str) -> Iterator[tuple[str, str]]:
        """(name, path) of what lies directly in a directory."""
        prefix = f"{directory}/" if directory else ""
        for path in self.paths(prefix):
            if "/" not in path[len(prefix) :]:
                yield path[len(prefix) :], path

    def read(self, path: str, limit: int) -> bytes:
        return self.tree.read(path, limit)


def of(tree: Tree) -> Contents:
    """Lists a tree once."""
    by_path = {entry.path: entry for entry in tree.entries()}
    return Contents(tree, by_path, tuple(sorted(by_path)), tree.subtree_id(""))


def check(files: Contents, place: Place, declared: Declared) -> tuple[Finding, ...]:
    """What a build of the function's directory would trip over."""
    if not declared.beside:
        return ()
    return (*_check_handler(files, place, declared), *_check_entries(files, place, declared.path))


def check_watched(files: Contents, place: Place, declared: Declared) -> tuple[Finding, ...]:
    """Watched paths that are not there: most likely a slip of the pen, and the function would never be rebuilt."""
    return tuple(
        place.finding(f"the repository has no {path!r}", f"/spec/build/watchPaths/{number}")
        for number, path in enumerate(declared.watch_paths)
        if not files.id(path)
    )


def _check_handler(files: Contents, place: Place, declared: Declared) -> tuple[Finding, ...]:
    runtime = Runtime.model_validate(declared.spec["runtime"])
    module, name = runtime.entrypoint()
    wanted = _handler_files(runtime.language, module)
    if any(files.mode(_join(declared.path, file)) is Mode.FILE for file in wanted):
        return ()
    if runtime.language is Language.GO and _has_go(files, _join(declared.path, _go_package(module)).rstrip("/")):
        return ()
    words = f"the handler {module}.{name} needs a file {' or '.join(wanted)} beside {place.file.rpartition('/')[2]}"
    return (place.finding(words, "/spec/runtime/handler"),)


def _handler_files(language: Language, module: str) -> tuple[str, ...]:
    if language is Language.GO:
        return (_join(_go_package(module), "*.go"),)
    if language is Language.PYTHON:
        file = module.replace(".", "/")
        return (f"{file}.py", f"{file}/__init__.py")
    return tuple(f"{module}{suffix}" for suffix in _NODE_SUFFIXES)


def _go_package(module: str) -> str:
    """Directory of the package, empty for the function's own."""
    return "" if module == "main" else module.replace(".", "/")


def _has_go(files: Contents, directory: str) -> bool:
    return any(child.endswith(".go") for child, _ in files.children(directory))


def _check_entries(files: Contents, place: Place, directory: str) -> tuple[Finding, ...]:
    findings = []
    for path in files.paths(f"{directory}/" if directory else ""):
        mode = files.mode(path)
        if mode is Mode.LINK and (target := _escape(files, path, directory)):
            findings.append(place.finding(f"the symbolic link {path} leads out of the function's directory: {target}"))
        elif mode is Mode.SUBMODULE:
            findings.append(place.finding(f"{path} is a git submodule; submodules are not fetched"))
    return tuple(findings[:20])


def _escape(files: Contents, path: str, directory: str) -> str:
    """Target of a link that leaves the directory; empty when it stays inside."""
    target = files.read(path, _LINK_LIMIT).decode("utf-8", "replace")
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    outside = resolved == ".." or resolved.startswith(("../", "/"))
    inside = not outside and (not directory or resolved == directory or resolved.startswith(f"{directory}/"))
    return "" if inside else target


def _join(directory: str, file: str) -> str:
    return f"{directory}/{file}" if directory else file
