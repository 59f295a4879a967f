"""Runs the command line in this process, as a person would in a directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from knative_lambda.cli import app

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal:
    """One directory and one screen."""

    def __init__(self, here: Path, screen: pytest.CaptureFixture[str]) -> None:
        self.here = here
        self._screen = screen

    def run(self, *arguments: str | Path, program: str = app.PROGRAM) -> Ended:
        """Exit code and what was printed since the last run."""
        self._screen.readouterr()
        code = app.run([str(argument) for argument in arguments], program=program)
        out, err = self._screen.readouterr()
        return Ended(code, out, err)

    def file(self, name: str, text: str) -> Path:
        """Writes a file below the directory."""
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path
