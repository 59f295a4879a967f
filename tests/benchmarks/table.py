"""Rows of figures and the machine they were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

_VERDICTS = {None: "", True: "met", False: "missed"}
_COLOURS = {None: "", True: "green", False: "bold red"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number with its goal."""

    what: str
    value: str
    goal: str = ""
    met: bool | None = None
    detail: str = ""
    """What the number was made of, such as the rounds of a median."""

    @property
    def told(self) -> str:
        """Its name in tables."""
        return f"{self.what} ({self.detail})" if self.detail else self.what


@dataclass(frozen=True, slots=True)
class Measured:
    """One benchmark's figures."""

    title: str
    figures: Sequence[Figure]
    seconds: float
    load: tuple[float, float]
    """One-minute load of the machine before and after: our own processes make about 2 of it."""


def machine() -> str:
    """Processor, cores, memory and versions, in a line."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")), "?")
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, {pages * size / 2**30:.0f} GiB,"
        f" {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def show(measured: Measured) -> None:
    """Prints the table; colours only on a terminal."""
    table = Table(title=measured.title, title_justify="left", caption=_circumstances(measured), caption_justify="left")
    table.add_column("figure", overflow="fold")
    table.add_column("measured", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("")
    for figure in measured.figures:
        verdict = _VERDICTS[figure.met]
        table.add_row(figure.told, figure.value, figure.goal, verdict, style=_COLOURS[figure.met])
    Console().print(table)


def markdown(all_measured: Sequence[Measured]) -> str:
    """The same tables for a page of docs."""
    parts = []
    for measured in all_measured:
        rows = [
            f"| {figure.told} | {figure.value} | {figure.goal} | {_VERDICTS[figure.met]} |"
            for figure in measured.figures
        ]
        head = ["| figure | measured | goal | |", "|---|--:|--:|---|"]
        parts.append("\n".join([f"### {measured.title}", "", *head, *rows, "", f"{_circumstances(measured)}."]))
    return "\n\n".join(parts) + "\n"


def verdict(all_measured: Sequence[Measured]) -> str:
    """How many goals were met, and which were not."""
    figures = [figure for measured in all_measured for figure in measured.figures if figure.met is not None]
    missed = [figure.what for figure in figures if not figure.met]
    told = f"{len(figures) - len(missed)} of {len(figures)} goals met"
    return f"{told}; missed: {'; '.join(missed)}" if missed else told


def _circumstances(measured: Measured) -> str:
    before, after = measured.load
    return f"took {measured.seconds:.0f} s, load of the machine {before:.1f} before and {after:.1f} after"
