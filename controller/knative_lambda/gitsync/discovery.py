"""Finds the functions of a revision, and what is wrong with them. Pure; called by loop and by `kn-lambda validate`.

Two forms are accepted:

* a directory with `function.yaml`: a LambdaFunction whose code is that directory. `apiVersion`, `kind` and `metadata`
  may be left out, the name is then the directory's. A `source` of another kind (inline, image, an object store) is
  allowed; the code is then not this directory.
* any other `*.yaml` or `*.yml` with whole LambdaFunction manifests, also several per file. Other kinds are passed over.

A function with findings is not declared but `held`: what runs of it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from knative_lambda.api.conditions import Reason
from knative_lambda.api.meta import API_VERSION, NAME_LENGTH, NAME_PATTERN
from knative_lambda.api.repository import FINDINGS_LIMIT, INVENTORY_LIMIT, Finding
from knative_lambda.gitsync import contents, document, validation
from knative_lambda.gitsync.contents import Contents
from knative_lambda.gitsync.declared import Declared
from knative_lambda.gitsync.document import Document, DocumentError
from knative_lambda.gitsync.tree import Mode, Tree
from knative_lambda.gitsync.validation import Place
from knative_lambda.kit import digest
from knative_lambda.sources.base import SourceError

FUNCTION_FILES = ("function.yaml", "function.yml")
_SUFFIXES = (".yaml", ".yml")
_PASSED_OVER = frozenset({"node_modules"})
_MANIFEST = re.compile(rb"(?m)^\s*[\"']?kind[\"']?\s*:\s*[\"']?LambdaFunction\b")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one revision may hold."""

    functions: int = INVENTORY_LIMIT
    findings: int = FINDINGS_LIMIT
    files: int = 20_000
    """YAML files that are looked into."""
    parsed_bytes: int = 32 * 2**20
    """Bytes of those that declare functions, for parsing takes about a second per MiB."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Read:
    """What one file said, and of which content that is true."""

    subtree: str
    """Id of the function's directory, or of the file."""
    watched: tuple[tuple[str, str], ...] = ()
    """(path, id) of everything else that was looked at."""
    declared: tuple[Declared, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.declared or self.findings)


@dataclass(frozen=True, slots=True)
class Discovered:
    """The functions of a revision."""

    functions: tuple[Declared, ...] = ()
    findings: tuple[Finding, ...] = ()
    held_paths: frozenset[str] = frozenset()
    """Directories (or manifest files) that still declare something, but not validly."""
    held_names: frozenset[str] = frozenset()
    known: Mapping[str, Read] = field(default_factory=dict, repr=False)
    """What to pass to the next discovery, so that only changed files are read."""


def discover(
    tree: Tree,
    *,
    path: str = "",
    namespace: str = "",
    limits: Limits = DEFAULT_LIMITS,
    known: Mapping[str, Read] | None = None,
) -> Discovered:
    """Functions below `path`; `known` must come from the same path and namespace.

    Raises SourceError when the path is not there or the tree passes a limit, for then nothing may be concluded.
    """
    files = contents.of(tree)
    if path and not files.is_directory(path):
        raise SourceError(Reason.SOURCE_NOT_FOUND, f"the revision has no directory {path!r}; mend spec.path")
    reads = _read_all(files, path, namespace=namespace, limits=limits, known=known or {})
    unique, twice = _unique([one for read in reads.values() for one in read.declared])
    findings = [*(one for read in reads.values() for one in read.findings), *twice]
    kept, excess = _bounded(unique, limits.functions)
    findings += excess
    return Discovered(
        functions=kept,
        findings=shortened(findings, limits.findings),
        held_paths=frozenset(_subject(one.file) for one in findings),
        held_names=frozenset(one.function for one in findings if one.function),
        known=reads,
    )


def _read_all(
    files: Contents, path: str, *, namespace: str, limits: Limits, known: Mapping[str, Read]
) -> dict[str, Read]:
    reads: dict[str, Read] = {}
    parsed = 0
    for count, file in enumerate(_candidates(files, path)):
        if count >= limits.files:
            raise SourceError(Reason.SOURCE_REFUSED, f"more than {limits.files} YAML files; set spec.path")
        before = known.get(file)
        reads[file] = before if before and _still_true(before, file, files) else _read(files, file, namespace)
        parsed += 0 if reads[file] is before or reads[file].is_empty else files.size(file)
        if parsed > limits.parsed_bytes:
            words = f"the function files hold more than {limits.parsed_bytes // 2**20} MiB; set spec.path"
            raise SourceError(Reason.SOURCE_REFUSED, words)
    return reads


def _candidates(files: Contents, path: str) -> Iterator[str]:
    prefix = f"{path}/" if path else ""
    for file in files.paths(prefix):
        if file.endswith(_SUFFIXES) and not _is_passed_over(file[len(prefix) :]):
            yield file


def _is_passed_over(inner: str) -> bool:
    parts = inner.split("/")
    return any(part.startswith(".") or part in _PASSED_OVER for part in parts)


def _still_true(read: Read, file: str, files: Contents) -> bool:
    return read.subtree == files.id(_subject(file)) and all(files.id(path) == seen for path, seen in read.watched)


def _subject(file: str) -> str:
    """The path whose content decides about a file: the function's directory, or the manifest itself."""
    directory, _, name = file.rpartition("/")
    return directory if name in FUNCTION_FILES else file


def _read(files: Contents, file: str, namespace: str) -> Read:
    is_function_file = file.rpartition("/")[2] in FUNCTION_FILES
    subtree = files.id(_subject(file))
    if files.mode(file) is not Mode.FILE:
        words = "a symbolic link is not followed; put a file here"
        return Read(subtree, findings=(validation.finding(file, words),) if is_function_file else ())
    data = files.read(file, document.SIZE_LIMIT + 1)
    if not is_function_file and not _MANIFEST.search(data):
        return Read(subtree)
    try:
        documents = document.parse(data)
    except DocumentError as error:
        return Read(subtree, findings=(validation.finding(file, error.message, line=error.line),))
    if is_function_file:
        return _read_function(files, file, documents, namespace=namespace)
    return _read_manifests(file, documents, namespace=namespace, subtree=subtree)


def _read_function(files: Contents, file: str, documents: list[Document], *, namespace: str) -> Read:
    directory = _subject(file)
    subtree = files.id(directory)
    if len(documents) != 1:
        words = f"holds {len(documents)} documents; one function per file" if documents else "is empty"
        return Read(subtree, findings=(validation.finding(file, f"the file {words}"),))
    place = Place(file, documents[0], _name(documents[0], directory.rpartition("/")[2]))
    declared, findings = _declare(place, directory, namespace)
    if declared is None or findings:
        return Read(subtree, findings=findings)
    findings = (*contents.check(files, place, declared), *contents.check_watched(files, place, declared))
    watched = tuple((path, files.id(path)) for path in declared.watch_paths)
    return Read(
        subtree,
        watched=watched,
        declared=() if findings else (declared.with_tree(_function_tree(files, declared)),),
        findings=findings,
    )


def _read_manifests(file: str, documents: list[Document], *, namespace: str, subtree: str) -> Read:
    declared: list[Declared] = []
    findings: list[Finding] = []
    for one in documents:
        value = one.value
        if isinstance(value, dict) and value.get("kind") == "LambdaFunction" and value.get("apiVersion") == API_VERSION:
            found, wrong = _declare_manifest(Place(file, one, _name(one, "")), namespace)
            findings += wrong
            declared += [found.with_tree(digest.short(value, length=32))] if found else []
    return Read(subtree, declared=tuple(declared), findings=tuple(findings))


def _declare_manifest(place: Place, namespace: str) -> tuple[Declared | None, tuple[Finding, ...]]:
    spec = place.document.value.get("spec")
    if isinstance(spec, dict) and "source" not in spec:
        words = "spec.source is missing; only a function.yaml stands beside its code and needs none"
        return None, (place.finding(words, "/spec"),)
    declared, findings = _declare(place, place.file, namespace)
    return (None if findings else declared), findings


def _declare(place: Place, path: str, namespace: str) -> tuple[Declared | None, tuple[Finding, ...]]:
    """Schema first; the types and the names only when that holds, for else they say the same again."""
    if findings := validation.check_schema(place):
        return None, findings
    declared = Declared.of(place.document, name=place.function, path=path, file=place.file)
    findings = (*_check_metadata(place, namespace), *validation.check_types(place, declared.sample()))
    return declared, findings


def _check_metadata(place: Place, namespace: str) -> tuple[Finding, ...]:
    metadata = place.document.value.get("metadata") or {}
    findings = []
    if "name" not in metadata and not _is_name(place.function):
        findings.append(place.finding(_nameless(place.function)))
    given = metadata.get("namespace")
    if given and namespace and given != namespace:
        words = f"the namespace is {given!r}, but this repository writes to {namespace!r}; leave it out"
        findings.append(place.finding(words, "/metadata/namespace"))
    return tuple(findings)


def _nameless(name: str) -> str:
    if not name:
        return "metadata.name is missing, and there is no directory to take it from"
    return (
        f"metadata.name is missing, and the directory {name[:80]!r} is no name for a function:"
        f" a-z, 0-9 and '-', a letter first, at most {NAME_LENGTH} characters"
    )


def _is_name(name: str) -> bool:
    return len(name) <= NAME_LENGTH and re.fullmatch(NAME_PATTERN, name) is not None


def _name(document: Document, default: str) -> str:
    """The name that a document gives itself, as far as it can be read."""
    value = document.value
    metadata = value.get("metadata") if isinstance(value, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and name else default


def _function_tree(files: Contents, declared: Declared) -> str:
    """Digest of what is built: the directory without the function file, and the watched paths.

    The function file itself does not count when the code stands beside it: a changed limit or variable must not
    rebuild. With another source, only the function file counts.
    """
    if not declared.beside:
        return digest.short("file", files.id(declared.file), length=32)
    name = declared.file.rpartition("/")[2]
    inner = [(child, files.id(path)) for child, path in files.children(declared.path) if child != name]
    return digest.short(inner, [(path, files.id(path)) for path in declared.watch_paths], length=32)


def _unique(declared: list[Declared]) -> tuple[list[Declared], list[Finding]]:
    """Functions with a name of their own; of those that share one, none is taken, for nobody knows which is meant."""
    by_name: dict[str, list[Declared]] = {}
    for one in declared:
        by_name.setdefault(one.name, []).append(one)
    findings = [_taken(one, others) for others in by_name.values() if len(others) > 1 for one in others]
    return [others[0] for others in by_name.values() if len(others) == 1], findings


def _taken(one: Declared, others: list[Declared]) -> Finding:
    elsewhere = ", ".join(sorted({other.file for other in others if other is not one}))
    words = f"the name {one.name!r} is also declared in {elsewhere}; neither is applied"
    return validation.finding(one.file, words, line=one.line, at="/metadata/name", function=one.name)


def _bounded(declared: list[Declared], limit: int) -> tuple[tuple[Declared, ...], list[Finding]]:
    excess = declared[limit:]
    words = f"more than {limit} functions; this one is not applied: use several FunctionRepositories"
    return tuple(declared[:limit]), [
        validation.finding(one.file, words, line=one.line, function=one.name) for one in excess
    ]


def shortened(findings: Iterable[Finding], limit: int) -> tuple[Finding, ...]:
    """In the order of files and lines; what passes the limit is counted in the last one."""
    ordered = sorted(findings, key=lambda one: (one.file, one.line or 0, one.pointer))
    if len(ordered) <= limit:
        return tuple(ordered)
    rest = ordered[limit - 1 :]
    return (*ordered[: limit - 1], validation.finding(rest[0].file, f"and {len(rest)} more findings"))
