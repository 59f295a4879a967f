"""YAML as people write it, with the line of every value, and without what makes YAML dangerous.

Read as a stream of events of the C parser and built here, for three reasons: the C composer recurses without a limit
(a file of 200,000 brackets crashes the process), lines must be kept, and YAML 1.1 makes timestamps and base-60
numbers out of text. Duplicate keys, tags, keys that are not text, and documents that are too large, too deep or
inflated by aliases are refused. Called by discovery.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

SIZE_LIMIT = 256 * 1024
DEPTH_LIMIT = 32
ALIAS_LIMIT = 64
NODE_LIMIT = 50_000
"""Values of one file, each alias counted with everything behind it."""
DOCUMENT_LIMIT = 1000
_INTEGER_LIMIT = 2**63

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"[-+]?0(?:x[0-9a-fA-F]+|o?[0-7]+|b[01]+)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "null", "bool", "int", "float", "map", "seq")}


class DocumentError(ValueError):
    """The file is not a document that we read; `line` counts from 1."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document as JSON-like values."""

    value: Any
    lines: dict[str, int] = field(repr=False)
    """JSON pointer -> line, counted from 1."""

    def line(self, pointer: str) -> int | None:
        """Line of a pointer, or of the nearest ancestor that stands in the file."""
        while pointer and pointer not in self.lines:
            pointer = pointer.rpartition("/")[0]
        return self.lines.get(pointer)


def parse(data: bytes) -> list[Document]:
    """Every document of a file; raises DocumentError at the first thing that is wrong."""
    if len(data) > SIZE_LIMIT:
        raise DocumentError(f"the file is larger than {SIZE_LIMIT // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("the file is not UTF-8 text", data[: error.start].count(b"\n") + 1) from error
    try:
        return list(_documents(yaml.parse(text, Loader=_LOADER)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.problem, error.context) if part)
        raise DocumentError(f"invalid YAML: {words}", mark.line + 1 if mark else None) from error
    except yaml.YAMLError as error:
        raise DocumentError(f"invalid YAML: {error}".splitlines()[0]) from error


def pointer(*steps: str | int) -> str:
    """A JSON pointer (RFC 6901) of keys and positions."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _documents(events: Iterator[Any]) -> Iterator[Document]:
    count = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            count += 1
            if count > DOCUMENT_LIMIT:
                raise DocumentError(f"more than {DOCUMENT_LIMIT} documents in one file")
            builder = _Builder(events)
            value = builder.value(next(events), "", 0)
            yield Document(value, builder.lines)


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Any
    nodes: int
    height: int


class _Builder:
    """Builds one document, recursing at most DEPTH_LIMIT deep."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.lines: dict[str, int] = {}
        self._events = events
        self._anchors: dict[str, _Anchored] = {}
        self._nodes = 0
        self._deepest = 0
        self._aliases = 0

    def value(self, event: Any, at: str, depth: int) -> Any:
        line = event.start_mark.line + 1
        self.lines.setdefault(at, line)
        self._reach(depth, line)
        self._count(1, line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, depth, line)
        _check_tag(event, line)
        return self._anchored(event, at, depth) if event.anchor else self._plain(event, at, depth)

    def _anchored(self, event: Any, at: str, depth: int) -> Any:
        """Remembers what an alias will cost, for the values behind it are not walked again."""
        nodes, deepest, self._deepest = self._nodes, self._deepest, depth
        found = self._plain(event, at, depth)
        self._anchors[event.anchor] = _Anchored(found, nodes=self._nodes - nodes, height=self._deepest - depth)
        self._deepest = max(deepest, self._deepest)
        return found

    def _plain(self, event: Any, at: str, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(at, depth)
        return self._mapping(at, depth)

    def _sequence(self, at: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self.value(event, f"{at}/{len(items)}", depth + 1))
        return items

    def _mapping(self, at: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._key(event, line)
            if key == "<<" and event.implicit[0]:
                merged = {**_mergeable(self.value(next(self._events), f"{at}/<<", depth + 1), line), **merged}
                continue
            if key in found:
                first = self.lines[at + pointer(key)]
                raise DocumentError(f"the key {key!r} is there twice, first in line {first}", line)
            self.lines[at + pointer(key)] = line
            found[key] = self.value(next(self._events), at + pointer(key), depth + 1)
        return {**merged, **found}

    def _key(self, event: Any, line: int) -> str:
        key = _scalar(event) if isinstance(event, yaml.ScalarEvent) else None
        if not isinstance(key, str):
            shown = event.value if isinstance(event, yaml.ScalarEvent) else "this key"
            raise DocumentError(f"keys must be text; put {shown} into quotes", line)
        self._count(1, line)
        return key

    def _alias(self, anchor: str | None, depth: int, line: int) -> Any:
        self._aliases += 1
        if self._aliases > ALIAS_LIMIT:
            raise DocumentError(f"more than {ALIAS_LIMIT} aliases", line)
        if anchor is None or anchor not in self._anchors:
            raise DocumentError(f"the alias *{anchor} has no anchor before it", line)
        anchored = self._anchors[anchor]
        self._count(anchored.nodes, line)
        self._reach(depth + anchored.height, line)
        return anchored.value

    def _reach(self, depth: int, line: int) -> None:
        self._deepest = max(self._deepest, depth)
        if depth > DEPTH_LIMIT:
            raise DocumentError(f"nested deeper than {DEPTH_LIMIT}", line)

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > NODE_LIMIT:
            raise DocumentError(f"more than {NODE_LIMIT} values, aliases resolved", line)


def _check_tag(event: Any, line: int) -> None:
    if event.tag not in (None, "!") and event.tag not in _TAGS:
        raise DocumentError(f"the tag {event.tag} is not allowed", line)


def _mergeable(value: Any, line: int) -> dict[str, Any]:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        raise DocumentError("<< takes a mapping or a list of mappings", line)
    return {key: one for part in reversed(parts) for key, one in part.items()}


def _scalar(event: Any) -> Any:
    """Quoted text stays text; plain text is null, a boolean, a number or text."""
    text: str = event.value
    tag = (event.tag or "").rpartition(":")[2]
    if tag in ("str", "!") or not (event.implicit[0] or tag):
        return text
    found = _resolved(text, event.start_mark.line + 1)
    if tag and not isinstance(found, _PYTHON[tag]):
        raise DocumentError(f"{text!r} is not of the type !!{tag}", event.start_mark.line + 1)
    return found


_PYTHON: dict[str, Any] = {"null": type(None), "bool": bool, "int": int, "float": (int, float)}


def _resolved(text: str, line: int) -> Any:
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _NOT_FINITE.fullmatch(text):
        raise DocumentError(f"{text} is not a number that JSON knows", line)
    return _number(text, line)


def _number(text: str, line: int) -> Any:
    if _INTEGER.fullmatch(text):
        return _integer(text, 10, line)
    if _OTHER_BASE.fullmatch(text):
        base = 0 if re.search(r"[xob]", text) else 8
        return _integer(text, base, line)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise DocumentError(f"{text} is too large", line)
        return number
    return text


def _integer(text: str, base: int, line: int) -> int:
    if len(text) > 66 or abs(number := int(text, base)) >= _INTEGER_LIMIT:
        raise DocumentError(f"{text[:24]} is too large", line)
    return number
