"""`make bench`: every figure, or those named: `python -m tests.benchmarks burst commit idle`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import (
    burst,
    chart,
    commit,
    dead_letters,
    functions,
    idle,
    local,
    local_broker,
    local_server,
    receiver,
)
from tests.benchmarks.table import Figure, Measured, machine, markdown, show, verdict

BENCHMARKS: dict[str, tuple[str, Callable[[int], list[Figure]], int]] = {
    "burst": ("inline functions created at once, until every Job exists", burst.run, 1000),
    "commit": ("functions of one repository: first commit, and a commit that touches one", commit.run, 1000),
    "idle": ("Ready functions, idle for a minute", idle.run, 10_000),
    "receiver": ("signed webhooks, and the way from a webhook to an applied commit", receiver.run, 2000),
    "dead-letters": ("dead letters stored by the sink, and replayed", dead_letters.run, 3000),
    "local": ("functions of local mode: starts, saves, and rest", local.run, 200),
    "local-broker": ("events through the broker of local mode", local_broker.run, 3000),
    "local-server": ("requests per round, through local mode's router and beside it", local_server.run, 2000),
    "functions": ("rounds of a function's server, beside servers that do less", functions.run, 10),
    "chart": ("renders of the chart, as `helm template` does", chart.run, 20),
}


def main() -> None:
    """Prints one table per benchmark as it ends, and the verdict at last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--count", type=int, help="how many, instead of each benchmark's own number")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables for docs/benchmarks.md, too")
    asked = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    began = time.monotonic()
    all_measured = []
    for name in asked.names or BENCHMARKS:
        all_measured.append(_measure(name, asked.count))
        show(all_measured[-1])
    if asked.markdown:
        asked.markdown.write_text(markdown(all_measured))
    print(f"{verdict(all_measured)}; took {time.monotonic() - began:.0f} s", flush=True)


def _measure(name: str, asked: int | None) -> Measured:
    what, run, usual = BENCHMARKS[name]
    title = f"{name}: {asked or usual} {what}"
    print(f"==> {title}", flush=True)
    before, began = os.getloadavg()[0], time.monotonic()
    figures = run(asked or usual)
    return Measured(title, figures, time.monotonic() - began, (before, os.getloadavg()[0]))


if __name__ == "__main__":
    main()
