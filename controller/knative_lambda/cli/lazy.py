"""A command group that imports a command's module only when that command runs.

`kn-lambda --help` lists names and summaries from the table in cli.app, and imports nothing else.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives: `function` of `module`, which may be a group, and the line that stands for it in help."""

    module: str
    function: str
    summary: str

    def load(self, name: str) -> Any:
        """The command itself, as the typer that is installed builds it."""
        found = getattr(importlib.import_module(self.module), self.function)
        if isinstance(found, typer.Typer):
            group = typer.main.get_command(found)
            for one in (group, *getattr(group, "commands", {}).values()):
                one.help = flowing(one.help)
            return group
        alone = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
        alone.command(name, help=flowing(inspect.getdoc(found)))(found)
        return typer.main.get_command(alone)


def flowing(text: str | None) -> str | None:
    """Help whose paragraphs are one line each, for the terminal to break; those behind a `\\b` stay as written."""
    if text is None:
        return None
    paragraphs = text.split("\n\n")
    return "\n\n".join(one if one.startswith("\b") else one.replace("\n", " ") for one in paragraphs)


class LazyGroup(TyperGroup):
    """Fills in the real command between its name being read and its options being parsed."""

    table: dict[str, Lazy]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.help = flowing(self.help)
        for name, lazy in self.table.items():
            self.add_command(TyperCommand(name, help=lazy.summary), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Called by typer when a command runs, and by shell completion inside one."""
        if args and args[0] in self.table:
            self.add_command(self.table[args[0]].load(args[0]), args[0])
        return super().resolve_command(ctx, args)
