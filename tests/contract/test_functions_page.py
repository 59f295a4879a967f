"""docs/functions.md is true: every example of a function runs, and answers what the page shows.

A `console` block asks the functions in the code blocks since the last one, whatever their language; a `log` block after
it shows what they must have logged. Ids are only compared in their form. JSON is compared as JSON.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from knative_lambda.api.function import Language
from tests.contract.functions import Answer, Serving
from tests.contract.go_functions import AnyShelf, any_shelf

pytestmark = pytest.mark.contract

PAGE = Path(__file__).parents[2] / "docs" / "functions.md"
FENCES = {"python": Language.PYTHON, "js": Language.NODEJS, "go": Language.GO}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ID = re.compile(r"\b[0-9a-f]{16}\b")


@dataclass(frozen=True)
class Call:
    """One `$ curl` of the page with what it shows."""

    command: str
    shown: str

    def ask(self, serving: Serving) -> Answer:
        words = iter(shlex.split(self.command.replace("$URL", "URL"))[1:])
        method, path, headers, body = "", "/", {}, b""
        for word in words:
            if word == "-X":
                method = next(words)
            elif word == "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = next(words).encode()
            elif word.startswith("URL"):
                path = word.removeprefix("URL") or "/"
            else:
                assert word in ("-s", "-i"), f"the page's curl has {word}, which this test does not know"
        return serving.ask(method or ("POST" if body else "GET"), path, headers=headers, body=body)

    def check(self, answer: Answer) -> None:
        head, blank, body = self.shown.partition("\n\n")
        if not head.startswith("HTTP/1.1 "):
            assert answer.status == 200, answer
            body = self.shown
        else:
            status, *headers = head.splitlines()
            assert str(answer.status) == status.removeprefix("HTTP/1.1 "), answer
            for name, _, value in (header.partition(": ") for header in headers):
                assert _idless(answer.headers[name]).startswith(_idless(value)), answer
            if not blank:
                return
        assert _comparable(answer.text) == _comparable(body), answer


@dataclass(frozen=True)
class Example:
    """The same function in some languages, and calls of it."""

    heading: str
    code: dict[Language, str]
    calls: list[Call]
    logged: list[str]


def _idless(text: str) -> str:
    return _ID.sub("ID", text)


def _comparable(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return _idless(text.strip())


def _calls(console: str) -> list[Call]:
    parts = re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]
    return [Call(command, shown.rstrip()) for command, _, shown in (part.partition("\n") for part in parts)]


def examples(text: str) -> Iterator[Example]:
    code: dict[Language, str] = {}
    found: list[Example] = []
    for block in _BLOCK.finditer(text):
        kind, content = block.groups()
        if kind in FENCES:
            code[FENCES[kind]] = content
        elif kind == "console":
            heading = re.findall(r"^#+ (.*)$", text[: block.start()], re.MULTILINE)[-1]
            found.append(Example(heading, code, _calls(content), []))
            code = {}
        elif kind == "log":
            found[-1].logged.extend(content.splitlines())
    assert not code, f"nothing calls the function {code}"
    return iter(found)


EXAMPLES = [
    (language, example) for language in Language for example in examples(PAGE.read_text()) if language in example.code
]
GO_CODES = {
    f"example-{number}": example.code[language]
    for number, (language, example) in enumerate(EXAMPLES)
    if language is Language.GO
}


@pytest.fixture(scope="module")
def shelves(request: pytest.FixtureRequest) -> Iterator[AnyShelf]:
    with any_shelf(request.param, GO_CODES) as shelf:
        yield shelf


@pytest.mark.parametrize(
    ("shelves", "number"),
    [(language, number) for number, (language, _) in enumerate(EXAMPLES)],
    indirect=["shelves"],
    ids=[f"{language.value}-{example.heading}" for language, example in EXAMPLES],
)
def test_example_of_the_page_answers_what_the_page_shows(shelves: AnyShelf, number: int) -> None:
    language, example = EXAMPLES[number]
    serving = shelves.serve(f"example-{number}", example.code[language])
    for call in example.calls:
        call.check(call.ask(serving))
    for line in example.logged:
        assert _idless(line) in _idless(serving.log)


def test_page_has_examples_of_every_part_in_every_language() -> None:
    headings = {language: {example.heading for one, example in EXAMPLES if one is language} for language in Language}
    assert headings[Language.PYTHON] == headings[Language.NODEJS] == headings[Language.GO]
    assert len(headings[Language.PYTHON]) >= 7
    assert all(example.calls for _, example in EXAMPLES)
