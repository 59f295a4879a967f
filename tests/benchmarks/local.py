"""Local mode as a person has it: a warm start, a save until the new code answers, and many functions at rest.

`kn-lambda dev` is its own process; saves are written to disk as an editor does, and what answers is asked over HTTP.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.benchmarks.table import Figure
from tests.local.dev_process import Dev, copy_examples

IDLE_SECONDS = 30.0
EXAMPLES = ("hello-python", "hello-nodejs", "inline-greeting", "order-events")
SAVED = {
    "hello-python": ("main.py", 'def handler(request):\n    return "{word}"\n'),
    "hello-nodejs": ("index.js", 'exports.handler = () => "{word}";\n'),
}
ASKING_SECONDS = 0.005
"""Between two questions whether the new code answers."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What a number of functions costs that nobody calls, with everything that they started."""

    seconds: float
    """From the start until the last was Ready."""
    cpu_percent: float
    rss: int
    processes: int


def run(count: int) -> list[Figure]:
    """`count` functions are registered for the last figures."""
    with tempfile.TemporaryDirectory(prefix="knative-lambda-bench-") as folder:
        place = copy_examples(Path(folder))
        state = Path(folder) / "state"
        cold = _all_ready(place, state)
        print(f"    first start: {cold:.1f} s", flush=True)
        warm = [_all_ready(place, state) for _ in range(3)]
        saves = _saves(place, state)
        rest = _at_rest(Path(folder), state, count)
    return [
        Figure(
            "first start, everything installed anew, until four functions are Ready, s",
            f"{cold:.1f}",
            "<= 60",
            cold <= 60,
        ),
        Figure("warm start until four functions are Ready, s", f"{statistics.median(warm):.1f}", detail=_listed(warm)),
        *(_save_figure(name, seconds) for name, seconds in saves.items()),
        Figure(f"{count} functions registered: seconds until all are Ready", f"{rest.seconds:.0f}"),
        Figure(f"{count} functions idle: CPU, % of a core", f"{rest.cpu_percent:.1f}"),
        Figure(f"{count} functions idle: RSS of everything, MiB", f"{rest.rss / 2**20:.0f}"),
        Figure(f"{count} functions idle: processes beside our own", str(rest.processes - 1)),
    ]


def _all_ready(place: Path, state: Path) -> float:
    """Seconds from the command to the last function that is Ready."""
    began = time.perf_counter()
    with Dev(place, state) as dev:
        for name in EXAMPLES:
            dev.ready(name)
        seconds = time.perf_counter() - began
        dev.stop()
    return seconds


def _saves(place: Path, state: Path, times: int = 10) -> dict[str, list[float]]:
    """Seconds from a save until the new code answers, by function."""
    with Dev(place, state) as dev:
        for name in EXAMPLES:
            dev.ready(name)
        found = {name: [_save(dev, place, name, f"word-{number}") for number in range(times)] for name in SAVED}
        dev.stop()
    return found


def _save(dev: Dev, place: Path, name: str, word: str) -> float:
    file, code = SAVED[name]
    with httpx.Client(timeout=30) as client:
        url = f"{dev.url}/fn/default/{name}"
        client.get(url)  # somebody who writes a function has it running
        began = time.perf_counter()
        (place / "functions" / name / file).write_text(code.format(word=word))
        while client.get(url).text != word:
            time.sleep(ASKING_SECONDS)
    return time.perf_counter() - began


def _at_rest(folder: Path, state: Path, count: int) -> Rest:
    place = folder / "many"
    for number in range(count):
        made = place / f"fn-{number:03}"
        made.mkdir(parents=True)
        (made / "function.yaml").write_text("spec:\n  runtime: {language: python}\n")
        (made / "main.py").write_text(f"def handler(request):\n    return {number}\n")
    began = time.perf_counter()
    with Dev(place, state, "--idle", "1") as dev:
        for number in range(count):
            dev.ready(f"fn-{number:03}", seconds=1200)
        seconds = time.perf_counter() - began
        whole = psutil.Process(dev.process.pid)
        while len(_family(whole)) > 1 and time.perf_counter() - began < seconds + 120:
            time.sleep(1)
        before, asked = _cpu(_family(whole)), time.perf_counter()
        time.sleep(IDLE_SECONDS)
        used = _cpu(_family(whole)) - before
        family = _family(whole)
        rest = Rest(
            seconds,
            cpu_percent=used * 100 / (time.perf_counter() - asked),
            rss=sum(one.memory_info().rss for one in family),
            processes=len(family),
        )
        dev.stop()
    return rest


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu(family: Sequence[psutil.Process]) -> float:
    return sum(one.cpu_times().user + one.cpu_times().system for one in family if one.is_running())


def _save_figure(name: str, seconds: list[float]) -> Figure:
    slowest = statistics.quantiles(seconds, n=20)[-1]
    what = f"a save of {name} until the new code answers, p95, s"
    return Figure(what, f"{slowest:.2f}", "< 1", slowest < 1, detail=f"median {statistics.median(seconds):.2f}")


def _listed(seconds: Sequence[float]) -> str:
    return ", ".join(f"{one:.1f}" for one in seconds)
