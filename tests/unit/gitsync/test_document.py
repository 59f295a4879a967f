"""YAML as people write it, and as attackers do."""

from __future__ import annotations

import pytest

from knative_lambda.gitsync import document
from knative_lambda.gitsync.document import DocumentError


def only(text: str) -> document.Document:
    (one,) = document.parse(text.encode())
    return one


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: -0x1F", {"a": -31}),
        ("a: 0o17", {"a": 15}),
        ("a: 0644", {"a": 420}),
        ("a: 1.5e3", {"a": 1500.0}),
        ("a: yes", {"a": True}),
        ("a: Off", {"a": False}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: '1'", {"a": "1"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: 2026-01-01T00:00:00Z", {"a": "2026-01-01T00:00:00Z"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 3.13", {"a": 3.13}),
        ("a: 1.2.3", {"a": "1.2.3"}),
        ("a: !!str 1", {"a": "1"}),
        ("a: !!int '7'", {"a": 7}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: [1, {b: c}]", {"a": [1, {"b": "c"}]}),
        ("b: &x {c: 1}\na: {<<: *x, d: 2}", {"b": {"c": 1}, "a": {"c": 1, "d": 2}}),
        (
            "b: &x {c: 1}\ne: &y {c: 9, f: 3}\na: {<<: [*x, *y], c: 2}",
            {"b": {"c": 1}, "e": {"c": 9, "f": 3}, "a": {"c": 2, "f": 3}},
        ),
        ("'<<': 1", {"<<": 1}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_values_are_what_json_would_hold(text: str, value: object) -> None:
    assert only(text).value == value


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "twice, first in line 1"),
        ("x:\n  b: 1\n  b: 2", 3, "twice"),
        ("a: [", 2, "invalid YAML"),
        ("a: 1\n\tb: 2", 2, "invalid YAML"),
        ("a: b: c", 1, "invalid YAML"),
        ("1: a", 1, "keys must be text"),
        ("on: a", 1, "quotes"),
        ("? [a]\n: b", 1, "keys must be text"),
        ("a: !!python/object/apply:os.system [x]", 1, "tag"),
        ("a: !secret x", 1, "tag"),
        ("a: !!binary aGk=", 1, "tag"),
        ("a: !!int x", 1, "not of the type"),
        ("a: *nowhere", 1, "invalid YAML|no anchor"),
        ("a: &a [*a]", 1, "no anchor"),
        ("a: .nan", 1, "not a number"),
        ("a: 1e999", 1, "too large"),
        ("a: 9223372036854775808", 1, "too large"),
        ("a: " + "9" * 5000, 1, "too large"),
        ("a: {<<: 1}", 1, "takes a mapping"),
        ("[" * 200_000, 1, "nested deeper"),
        ("- " * 100_000, 1, "nested deeper"),
        ("a: 'x\0y'", None, "invalid YAML"),
        ("a: " + "x" * document.SIZE_LIMIT, None, "larger than 256 KiB"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as caught:
        document.parse(text.encode())
    assert caught.value.line == line


def test_text_that_is_not_utf_8_is_told() -> None:
    with pytest.raises(DocumentError, match="UTF-8") as caught:
        document.parse(b"a: 1\nb: \xff")
    assert caught.value.line == 2


def test_a_billion_laughs_are_not_laughed() -> None:
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    with pytest.raises(DocumentError, match="values"):
        document.parse(laughs.encode())


def test_aliases_do_not_nest_deeper_than_brackets_may() -> None:
    deep = "a0: &a0 [[[[[[[[x]]]]]]]]\n" + "".join(f"a{n}: &a{n} [[[[[[[[*a{n - 1}]]]]]]]]\n" for n in range(1, 6))
    with pytest.raises(DocumentError, match="nested deeper"):
        document.parse(deep.encode())


def test_many_aliases_are_refused() -> None:
    with pytest.raises(DocumentError, match="aliases"):
        document.parse(("a: &a 1\nb: [" + ", ".join(["*a"] * 100) + "]").encode())


def test_a_pointer_leads_to_its_line() -> None:
    one = only("spec:\n  env:\n  - name: A\n    value: b\n  - name: B\n  a/b~c: 1\n")
    assert one.line("/spec/env/0/value") == 4
    assert one.line("/spec/env/1") == 5
    assert one.line(document.pointer("spec", "a/b~c")) == 6
    assert one.line("/spec/env/1/nothing/there") == 5
    assert one.line("") == 1


def test_one_file_may_hold_several_documents() -> None:
    documents = document.parse(b"---\na: 1\n---\nb: 2\n...\n---\n")
    assert [one.value for one in documents] == [{"a": 1}, {"b": 2}, None]
    assert documents[1].line("/b") == 4
