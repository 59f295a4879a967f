"""Label and field selectors, as the API server reads them. Called by memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from knative_lambda.cluster.base import Invalid, Selection

Labels = Mapping[str, str]
LabelTest = Callable[[Labels], bool]

_SET = re.compile(r"^\s*(?P<key>\S+)\s+(?P<word>in|notin)\s*\(\s*(?P<values>[^()]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s=!]+)\s*(?P<sign>==|=|!=)\s*(?P<value>[^\s=!]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<absent>!?)\s*(?P<key>[A-Za-z0-9][^\s=!,()]*)\s*$")
_COMMA = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True, slots=True)
class Traits:
    """What selectors can ask of an object."""

    namespace: str
    labels: Labels
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Matcher:
    """A Selection made ready for many objects."""

    namespace: str
    labels: tuple[LabelTest, ...]
    fields: tuple[tuple[str, bool, str], ...]
    """(path, wanted equal or not, value)"""

    def matches(self, traits: Traits) -> bool:
        if self.namespace and traits.namespace != self.namespace:
            return False
        if not all(test(traits.labels) for test in self.labels):
            return False
        return all((traits.fields.get(path, "") == value) is equal for path, equal, value in self.fields)


def compiled(selection: Selection, *, fields: frozenset[str]) -> Matcher:
    """`fields` are the paths that the kind lets one select by. Raises Invalid for what cannot be parsed."""
    return Matcher(
        selection.namespace or "",
        tuple(_label_test(part) for part in _COMMA.split(selection.labels) if part.strip()),
        tuple(_field_test(part, fields) for part in selection.fields.split(",") if part.strip()),
    )


def _label_test(text: str) -> LabelTest:
    if found := _SET.match(text):
        values = frozenset(value.strip() for value in found["values"].split(","))
        return _membership(found["key"], values, wanted=found["word"] == "in")
    if found := _EQUAL.match(text):
        return _membership(found["key"], frozenset({found["value"]}), wanted=found["sign"] != "!=")
    if found := _EXISTS.match(text):
        key, present = found["key"], not found["absent"]
        return lambda labels: (key in labels) is present
    raise Invalid(f"unable to parse label selector {text.strip()!r}")


def _membership(key: str, values: frozenset[str], *, wanted: bool) -> LabelTest:
    """An object without the label is in no set, and so satisfies `notin` and `!=`."""
    return lambda labels: (key in labels and labels[key] in values) is wanted


def _field_test(text: str, known: frozenset[str]) -> tuple[str, bool, str]:
    found = _EQUAL.match(text)
    if found is None:
        raise Invalid(f"unable to parse field selector {text.strip()!r}")
    if found["key"] not in known:
        raise Invalid(f"field label not supported: {found['key']}")
    return found["key"], found["sign"] != "!=", found["value"]
