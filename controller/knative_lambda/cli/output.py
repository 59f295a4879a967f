"""What commands print: text for people or JSON for programs, on stdout; never both, never anything else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Form(StrEnum):
    """Values of --output."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[Form, typer.Option("--output", "-o", help="text for people, json for programs.")]


def console(*, stderr: bool = False) -> Console:
    """A console that colours on a terminal only, and not at all where NO_COLOR is set."""
    from rich.console import Console

    plain = bool(os.environ.get("NO_COLOR"))
    return Console(
        file=sys.stderr if stderr else sys.stdout,
        color_system=None if plain else "auto",
        highlight=False,
        emoji=False,
        markup=False,
        soft_wrap=True,
    )


def printable(text: str) -> str:
    """One line without control characters: a repository must not talk to the terminal of who checks it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def legible(text: str) -> str:
    """Lines of a program's output, tabs and all, without control characters that would move a terminal's cursor."""
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in text.split("\n"))


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows under each other, the last cell as long as it is; cells are made printable."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def write_line(value: Any) -> None:
    """One JSON document in one line, at once: for output that goes on."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """One JSON document with an ending newline."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write(text: str) -> None:
    """Text as it is; files and manifests are never wrapped or coloured."""
    sys.stdout.write(text)
