"""`make bench`: every figure, or those named: `python -m tests.benchmarks burst commit idle`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from tests.benchmarks import burst, commit, idle
from tests.benchmarks.table import Figure, machine, show

BENCHMARKS: dict[str, tuple[str, Callable[[int], list[Figure]], int]] = {
    "burst": ("inline functions created at once, until every Job exists", burst.run, 1000),
    "commit": ("functions of one repository: first commit, and a commit that touches one", commit.run, 1000),
    "idle": ("Ready functions, idle for a minute", idle.run, 10_000),
}


def main() -> None:
    """Prints one table per benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--count", type=int, help="functions, instead of each benchmark's own number")
    asked = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    for name in asked.names or BENCHMARKS:
        what, run, usual = BENCHMARKS[name]
        count = asked.count or usual
        print(f"==> {name}: {count} {what}", flush=True)
        began = time.monotonic()
        show(f"{name}: {count} {what}", run(count))
        print(f"    took {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
