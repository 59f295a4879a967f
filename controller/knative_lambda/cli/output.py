"""What commands print: text for people or JSON for programs, on stdout; never both, never anything else."""

from __future__ import annotations

import json
import os
import sys
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


def write_json(value: Any) -> None:
    """One JSON document with an ending newline."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write(text: str) -> None:
    """Text as it is; files and manifests are never wrapped or coloured."""
    sys.stdout.write(text)
