"""The documentation speaks of what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("functions-example-repo/**/*.md")])
_QUOTED = re.compile(r"`((?:controller|schemas|chart|functions-example-repo|hooks|tests|docs|\.ci)/[\w./*-]*)`")
_LINKED = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
_TARGETS = re.compile(r"^([a-z][a-z-]*):.*##", re.MULTILINE)
_MADE = re.compile(r"`make ([a-z][a-z -]*)`")


def named_paths(text: str) -> set[str]:
    """Paths in backticks, from the root of the repository."""
    return set(_QUOTED.findall(text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    absent = [path for path in named_paths(text) if not list(ROOT.glob(path.rstrip("/")))]
    prose = re.sub(r"`[^`]*`", "", text)
    broken = [link for link in _LINKED.findall(prose) if not (document.parent / link).exists()]
    assert absent == []
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    targets = set(_TARGETS.findall((ROOT / "Makefile").read_text()))
    named = {word for group in _MADE.findall(document.read_text()) for word in group.split()}
    assert named <= targets


def test_a_path_that_is_not_there_would_be_found() -> None:
    assert named_paths("see `docs/no-such-page.md` and `README.md`") == {"docs/no-such-page.md"}
