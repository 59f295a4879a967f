"""Rows of figures and the machine they were taken on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number with its goal."""

    what: str
    value: str
    goal: str = ""
    met: bool | None = None


def machine() -> str:
    """Processor, cores, memory and versions, in a line."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")), "?")
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, {pages * size / 2**30:.0f} GiB,"
        f" {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def show(title: str, figures: list[Figure]) -> None:
    """Prints the table; colours only on a terminal."""
    table = Table(title=title, title_justify="left")
    for column in ("figure", "measured", "goal", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    for figure in figures:
        verdict = {None: "", True: "met", False: "missed"}[figure.met]
        table.add_row(figure.what, figure.value, figure.goal, verdict)
    Console().print(table)
