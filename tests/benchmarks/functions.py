"""What a function's server costs: the cold first request and each further one, beside servers that do less.

For each language the same empty answer comes from a bare server of the standard library, from functions-framework alone
as its own command starts it, from our shim on it, and from what one would build instead of it; last, `kn-lambda dev` is
asked, which scaled the function to zero before. Servers of a round start one after the other, so that whatever else the
machine does meets them alike; the first round only warms the caches.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from knative_lambda.api.function import Language
from knative_lambda.runtimes import catalog
from tests.benchmarks import contenders
from tests.benchmarks.contenders import BARE, HANDLERS, OTHER, SHIM, Program
from tests.benchmarks.table import Figure
from tests.contract.functions import NotInstallable
from tests.local.dev_process import Dev
from tests.testbed import processes

GOAL = 1.3
CONNECTIONS = 8
REQUESTS = 2000
IDLE_SECONDS = "1"
"""Until local mode ends a function that nobody calls."""


@dataclass
class Contender:
    """One way to serve the same function."""

    program: Program
    cold: list[float] = field(default_factory=list)
    """Milliseconds from the start of the process to the whole first answer."""
    work: list[float] = field(default_factory=list)
    """Milliseconds of processor time of its processes until then: what a busy machine does not change much."""
    warm: list[float] = field(default_factory=list)
    """Milliseconds of a request on a kept connection, one after the other."""
    rate: float = 0
    """Requests per second on eight connections."""
    memory: int = 0
    """MiB of all its processes after that, pages that they share counted once."""


@dataclass(frozen=True)
class LocalMode:
    """`kn-lambda dev` with one function per language, which nobody calls but we."""

    dev: Dev

    def program(self, language: Language) -> Path:
        """What runs as that function."""
        self.cold(language)
        return Path(self._processes()[0].exe())

    def cold(self, language: Language) -> float:
        """Milliseconds of a request when no process is there."""
        processes.wait_until(lambda: not self._processes(), what="scale to zero", timeout=30)
        began = time.perf_counter()
        self._ask(language)
        return (time.perf_counter() - began) * 1000

    def _ask(self, language: Language) -> None:
        port = int(self.dev.url.rpartition(":")[2])
        _asked(http.client.HTTPConnection("127.0.0.1", port, timeout=20), f"/fn/default/{language.value}")

    def _processes(self) -> list[psutil.Process]:
        return psutil.Process(self.dev.process.pid).children(recursive=True)


def run(count: int) -> list[Figure]:
    """`count` rounds."""
    with processes.Run.begin("functions") as bed, _local_mode(bed) as local:
        return [figure for language in Language for figure in _measured(language, bed, local, count)]


@contextlib.contextmanager
def _local_mode(bed: processes.Run) -> Iterator[LocalMode]:
    place, languages = bed.directory("functions"), contenders.installed_languages()
    for language in languages:
        folder = place / language.value
        folder.mkdir()
        (folder / "function.yaml").write_text(f"spec:\n  runtime: {{language: {language.value}}}\n")
        (folder / catalog.RUNTIMES[language].code_file).write_text(HANDLERS[language])
    with Dev(place, bed.directory("state"), "--idle", IDLE_SECONDS) as dev:
        for language in languages:
            dev.ready(language.value, seconds=300)
        yield LocalMode(dev)
        dev.stop()


def _measured(language: Language, bed: processes.Run, local: LocalMode, count: int) -> list[Figure]:
    if language not in contenders.installed_languages():
        return [Figure(f"{language.value}: not measured", "it is not installed")]
    try:
        found = contenders.programs(language, bed, local.program(language))
    except NotInstallable as reason:
        return [Figure(f"{language.value}: not measured", str(reason))]
    racing, through = [Contender(program) for program in found], []
    for number in range(count + 1):
        for contender in racing:
            _race(contender, bed, first=number == 0, last=number == count)
        through.append(local.cold(language))
    return _told(language, racing, through[1:])


def _race(contender: Contender, bed: processes.Run, *, first: bool, last: bool) -> None:
    milliseconds, work = _once(contender, bed, measured=last)
    if not first:
        contender.cold.append(milliseconds)
        contender.work.append(work)


def _once(contender: Contender, bed: processes.Run, *, measured: bool) -> tuple[float, float]:
    """Milliseconds to the first answer, and of processor time; `measured` takes the further requests, too."""
    port = processes.free_port()
    began = time.perf_counter()
    server = bed.start("server", contender.program.command, env={**contender.program.environment, "PORT": str(port)})
    try:
        _first(server, port)
        milliseconds = (time.perf_counter() - began) * 1000
        work = sum(_ticks(process) for process in _group(server.pid)) * 1000 / os.sysconf("SC_CLK_TCK")
        if measured:
            contender.warm = _one_by_one(port)
            contender.rate = asyncio.run(_at_once(port))
            contender.memory = _memory(server.pid)
    finally:
        server.kill()
    return milliseconds, work


def _first(server: processes.Server, port: int) -> None:
    while True:
        try:
            _asked(http.client.HTTPConnection("127.0.0.1", port, timeout=20))
        except ConnectionRefusedError:
            if not server.running:
                raise RuntimeError(f"{server.name} ended: {server.tail()}") from None
            time.sleep(0.0005)
        else:
            return


def _asked(connection: http.client.HTTPConnection, path: str = "/") -> None:
    connection.request("GET", path)
    response = connection.getresponse()
    if (response.status, response.read()) != (200, b"hello"):
        raise RuntimeError(f"answered {response.status}")


def _one_by_one(port: int) -> list[float]:
    connection, times = http.client.HTTPConnection("127.0.0.1", port, timeout=20), []
    for _ in range(REQUESTS // 4):
        began = time.perf_counter()
        _asked(connection)
        times.append((time.perf_counter() - began) * 1000)
    connection.close()
    return times


async def _at_once(port: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def worker() -> None:
            for _ in range(REQUESTS // CONNECTIONS):
                async with session.get(f"http://127.0.0.1:{port}/") as answer:
                    await answer.read()

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        return REQUESTS / (time.perf_counter() - began)


def _group(leader: int) -> list[Path]:
    """Folders in /proc of the processes that were started together."""
    return [stat.parent for stat in Path("/proc").glob("[0-9]*/stat") if _fields(stat)[2:3] == [str(leader)]]


def _ticks(process: Path) -> int:
    """Of processor time, in user and system mode, with those of children that ended."""
    return sum(int(field) for field in _fields(process / "stat")[11:15])


def _fields(stat: Path) -> list[str]:
    try:
        return stat.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _memory(leader: int) -> int:
    lines = [line for process in _group(leader) for line in (process / "smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) // 1024


def _told(language: Language, racing: Sequence[Contender], through: Sequence[float]) -> list[Figure]:
    by_name = {contender.program.name: contender for contender in racing}
    bare = by_name[BARE]
    ratio = _median(by_name[SHIM].cold) / _median(bare.cold)
    title = f"{language.value}: cold first request, shim beside a bare server"
    goal = Figure(title, f"{ratio:.1f}x", f"<= {GOAL}x", ratio <= GOAL)
    local = Figure(f"{language.value}, shim in local mode, scaled to zero before", _cold(through, bare))
    return [goal, *(_figure(language, contender, bare) for contender in racing), local]


def _figure(language: Language, contender: Contender, bare: Contender) -> Figure:
    name = contender.program.name
    told = f"{name} ({contenders.OTHER_NAME[language]})" if name == OTHER else name
    work = f"{_median(contender.work):.0f} ms of processor"
    further = f"{_median(contender.warm):.2f} ms a further one, {contender.rate:.0f}/s on {CONNECTIONS} connections"
    return Figure(
        f"{language.value}, {told}", f"{_cold(contender.cold, bare)}, {work}; {further}; {contender.memory} MiB"
    )


def _cold(milliseconds: Sequence[float], bare: Contender) -> str:
    middle = _median(milliseconds)
    return f"{middle:.0f} ms ({min(milliseconds):.0f} at best, {middle / _median(bare.cold):.1f}x bare)"


def _median(numbers: Sequence[float]) -> float:
    return statistics.median(numbers)
