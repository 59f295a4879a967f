"""Logs of pods, of instances' files and of builds: the last lines, what comes later, rotation, and what breaks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from knative_lambda.api import crd, kinds
from knative_lambda.api.meta import Key
from knative_lambda.cli import logfiles, loglines, podlogs
from knative_lambda.cli.loglines import Line, Lines
from knative_lambda.cluster.base import Invalid, Object, Selection
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local import state
from knative_lambda.local.building import build_log
from knative_lambda.local.building.build_log import BuildLog
from knative_lambda.local.serving.instance_log import InstanceLog

HELLO = Key("shop", "hello")


def texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


# ---- lines ----


def test_bytes_become_whole_lines_wherever_they_are_cut() -> None:
    lines = Lines("a")
    assert texts(list(lines.feed("één\r\ntw".encode()))) == ["één"]
    assert texts(list(lines.feed(b"o\n\nthree"))) == ["two", ""]
    assert texts(list(lines.end())) == ["three"]
    assert list(lines.end()) == []


def test_a_line_that_never_ends_is_broken_for_memorys_sake() -> None:
    lines = Lines("a")
    found = [line for _ in range(40) for line in lines.feed(b"x" * 4096)]
    assert [len(line.text) for line in found] == [loglines.LINE_LIMIT + 4096] * 2


# ---- files of local mode ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def instance(folder: Path, name: str, text: bytes, *, at: int, limit: int = 1 << 20) -> InstanceLog:
    """What an instance printed, last written at that second."""
    log = InstanceLog(state.function_logs(folder, HELLO) / f"{name}.log", limit=limit)
    log.write(text)
    os.utime(log.path, (at, at))
    return log


@contextmanager
def written(*logs: InstanceLog) -> Iterator[None]:
    yield
    for log in logs:
        log.close()


def test_the_last_lines_are_those_of_the_instances_that_wrote_last(folder: Path) -> None:
    first = instance(folder, "hello-00001-a", b"1\n2\n3\n", at=100)
    second = instance(folder, "hello-00002-b", b"4\n5\n", at=200)
    with written(first, second):
        files = logfiles.of_function(folder, HELLO)
        assert [path.stem for path in files] == ["hello-00001-a", "hello-00002-b"]
        assert list(logfiles.existing(files, tail=3)) == [
            Line("hello-00001-a", "3"),
            Line("hello-00002-b", "4"),
            Line("hello-00002-b", "5"),
        ]
        assert texts(list(logfiles.existing(files, tail=100))) == ["1", "2", "3", "4", "5"]
        assert list(logfiles.existing(files, tail=0)) == []
        assert logfiles.of_function(folder, Key("shop", "other")) == []


def test_the_older_part_of_a_full_log_counts_as_well(folder: Path) -> None:
    log = instance(folder, "hello-00001-a", b"".join(b"%03d\n" % number for number in range(40)), at=100, limit=256)
    with written(log):
        assert log.path.with_name(f"{log.path.name}.1").is_file()
        files = logfiles.of_function(folder, HELLO)
        assert texts(list(logfiles.existing(files, tail=20))) == [f"{number:03d}" for number in range(20, 40)]


def test_the_end_of_a_large_file_is_found_without_reading_it_all(folder: Path) -> None:
    log = instance(folder, "hello-00001-a", b"x" * 100 + b"\n", at=100, limit=1 << 30)
    with written(log):
        log.write(b"".join(b"%099d\n" % number for number in range(5000)))
        lines = list(logfiles.existing([log.path], tail=1500))
    assert [int(line.text) for line in lines] == list(range(3500, 5000))


async def test_who_follows_sees_what_is_written_rotated_and_begun(folder: Path) -> None:
    log = instance(folder, "hello-00001-a", b"old\n", at=100, limit=64)
    look = lambda: logfiles.of_function(folder, HELLO)  # noqa: E731
    async with asyncio.timeout(20), aclosing(logfiles.following(look(), look, tail=1, clock=SystemClock())) as lines:
        assert await anext(lines) == Line("hello-00001-a", "old")
        waiting = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0.05)
        log.write(b"new, and long enough for the next\nto be in another file\n")
        found = [await waiting, await anext(lines)]
        assert texts(found) == ["new, and long enough for the next", "to be in another file"]
        assert log.path.with_name(f"{log.path.name}.1").is_file()
        second = instance(folder, "hello-00002-b", b"another instance\n", at=300)
        assert await anext(lines) == Line("hello-00002-b", "another instance")
    log.close()
    second.close()


async def test_what_was_there_is_not_shown_twice_to_who_follows(folder: Path) -> None:
    log = instance(folder, "hello-00001-a", b"1\n2\n", at=100)
    look = lambda: logfiles.of_function(folder, HELLO)  # noqa: E731
    async with asyncio.timeout(20), aclosing(logfiles.following(look(), look, tail=5, clock=SystemClock())) as lines:
        first = await anext(lines)
        log.write(b"3\n")
        rest = [await anext(lines), await anext(lines)]
    log.close()
    assert texts([first, *rest]) == ["1", "2", "3"]


def test_the_newest_build_of_that_very_function_is_found(folder: Path) -> None:
    logs = state.build_logs(folder)
    for job, at in (("hello-0123456789", 100), ("hello-abcdef0123", 200), ("hello-x-0123456789", 300)):
        path = build_log.place(logs, Key("shop", job))
        with BuildLog(path) as log:
            log.feed(f"built by {job}\n".encode())
        os.utime(path, (at, at))
    elsewhere = build_log.place(logs, Key("web", "hello-ffffffffff"))
    with BuildLog(elsewhere) as log:
        log.feed(b"another namespace\n")
    files = logfiles.of_builds(folder, HELLO)
    assert [path.stem for path in files] == ["hello-0123456789", "hello-abcdef0123"]
    assert [path.stem for path in logfiles.of_builds(folder, Key("builds", "hello"))][-1] == "hello-ffffffffff"


# ---- pods ----


class Printing(MemoryCluster):
    """A memory cluster whose containers have printed something."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock(), definitions=crd.definitions())
        self.printed: dict[tuple[str, str], list[bytes]] = {}
        self.asked: list[tuple[str, str, int | None]] = []

    async def log(
        self, pod: Key, *, container: str, follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[bytes]:
        self.asked.append((pod.name, container, tail))
        chunks = self.printed.get((pod.name, container))
        if chunks is None:
            raise Invalid(f'container "{container}" is waiting to start')
        for chunk in chunks:
            yield chunk
        if follow:
            await asyncio.sleep(3600)

    async def add(self, name: str, *, labels: dict[str, str], namespace: str = "shop", **spec: Any) -> Object:
        containers = spec or {"containers": [{"name": "function"}, {"name": "queue-proxy"}]}
        return await self.create(
            kinds.POD, {"metadata": {"namespace": namespace, "name": name, "labels": labels}, "spec": containers}
        )

    async def begin(self, name: str, *, restarts: int = 0) -> None:
        rows = [
            {"name": each, "restartCount": restarts, "state": {"running": {}}} for each in ("function", "queue-proxy")
        ]
        await self.patch(kinds.POD, Key("shop", name), {"status": {"containerStatuses": rows}}, subresource="status")


@pytest.fixture
def printing() -> Printing:
    return Printing()


SERVED = {"serving.knative.dev/service": "hello"}
BUILT = {
    "lambda.knative.io/component": "build",
    "lambda.knative.io/function": "hello",
    "lambda.knative.io/function-namespace": "shop",
}


async def read(printing: Printing, selection: Selection, *, newest_only: bool = False) -> list[Line]:
    return [line async for line in podlogs.existing(printing, selection, tail=5, newest_only=newest_only)]


async def test_pods_are_read_without_their_sidecar_and_what_cannot_be_read_says_so(printing: Printing) -> None:
    await printing.add("hello-1", labels=SERVED)
    await printing.add("hello-2", labels=SERVED)
    await printing.add("other-1", labels={"serving.knative.dev/service": "other"})
    printing.printed["hello-1", "function"] = [b"a\nb", b"c\n"]
    assert await read(printing, podlogs.serving(HELLO)) == [
        Line("hello-1 function", "a"),
        Line("hello-1 function", "bc"),
        Line("hello-2 function", 'container "function" is waiting to start', is_problem=True),
    ]
    assert printing.asked == [("hello-1", "function", 5), ("hello-2", "function", 5)]


async def test_a_build_is_read_in_the_order_of_its_containers_wherever_it_runs(printing: Printing) -> None:
    parts = {"initContainers": [{"name": "context"}], "containers": [{"name": "kaniko"}]}
    await printing.add("hello-b1", labels=BUILT, namespace="builds", **parts)
    selection = await podlogs.building(printing, HELLO)
    assert (selection.namespace, "function-namespace=shop" in selection.labels) == (None, True)
    printing.printed["hello-b1", "context"] = [b"fetched\n"]
    printing.printed["hello-b1", "kaniko"] = [b"pushed\n"]
    assert texts(await read(printing, selection, newest_only=True)) == ["fetched", "pushed"]
    await printing.add("hello-b0", labels=BUILT, **parts)
    assert (await podlogs.building(printing, HELLO)).namespace == "shop"


async def test_pods_that_come_later_are_followed_from_their_first_line(printing: Printing) -> None:
    await printing.add("hello-1", labels=SERVED)
    await printing.begin("hello-1")
    printing.printed["hello-1", "function"] = [b"one\n"]
    lines = podlogs.following(printing, podlogs.serving(HELLO), tail=7, clock=SystemClock())
    async with asyncio.timeout(20), aclosing(lines):
        assert await anext(lines) == Line("hello-1 function", "one")
        printing.printed["hello-2", "function"] = [b"two\n"]
        await printing.add("hello-2", labels=SERVED)
        await printing.begin("hello-2")
        assert await anext(lines) == Line("hello-2 function", "two")
        printing.printed["hello-1", "function"] = [b"again\n"]
        await printing.begin("hello-1", restarts=1)
        assert await anext(lines) == Line("hello-1 function", "again")
    assert printing.asked == [("hello-1", "function", 7), ("hello-2", "function", None), ("hello-1", "function", None)]
