"""What the tests of host builds share: requests, a workshop over the memory toolchain, programs that pose."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from knative_lambda.api.function import InlineSource, Language, Runtime, Source, SourceType
from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.building.build_log import BuildLog
from knative_lambda.local.building.commands import Terms
from knative_lambda.local.building.images import ImageStore
from knative_lambda.local.building.toolchains.base import Toolchain
from knative_lambda.local.building.toolchains.memory import MemoryToolchain
from knative_lambda.local.building.workshop import Order, Workshop
from knative_lambda.resources import build_request
from knative_lambda.resources.build_request import BuildRequest
from knative_lambda.sources.dial import DialPolicy

CODE = "def handler(event):\n    return 'hello'\n"
BARE = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/nonexistent")}


def request(code: str = CODE, dependencies: str = "", language: Language = Language.PYTHON) -> str:
    """A build request of inline code, as a Job carries it."""
    return build_request.encode(
        BuildRequest(
            namespace="tenant",
            name="hello",
            source=Source(type=SourceType.INLINE, inline=InlineSource(code=code, dependencies=dependencies)),
            runtime=Runtime(language=language),
        )
    )


def order(
    code: str = CODE,
    dependencies: str = "",
    *,
    name: str = "job",
    seconds: float = 30,
    language: Language = Language.PYTHON,
) -> Order:
    asked = request(code, dependencies, language)
    return Order(Key("tenant", name), asked, deadline=time.monotonic() + seconds)


@contextmanager
def terms(folder: Path, seconds: float = 30) -> Iterator[Terms]:
    """Of one build, with its log in that folder."""
    with BuildLog(folder / "log") as log:
        yield Terms(log, SystemClock(), time.monotonic() + seconds)


def workshop(store: ImageStore, logs: Path, toolchain: Toolchain, language: Language = Language.PYTHON) -> Workshop:
    return Workshop(store, {language: toolchain}, policy=DialPolicy(), logs=logs, clock=SystemClock())


class Bench:
    """A store and a workshop in a folder, with the memory toolchain."""

    def __init__(self, folder: Path, *, limit: int = 10_000_000, grace: float = 0.0) -> None:
        self.folder = folder
        self.toolchain = MemoryToolchain()
        self.store = ImageStore(folder / "images", limit_bytes=limit, grace=grace)
        self.workshop = workshop(self.store, folder / "logs", self.toolchain)

    def build(self, code: str = CODE, dependencies: str = "", *, name: str = "job") -> str:
        return self.workshop.build(order(code, dependencies, name=name))

    def reopened(self) -> Bench:
        """As the next process finds it."""
        self.store.close()
        return Bench(self.folder)

    def left_over(self) -> list[str]:
        """What lies where things are made."""
        return [path.name for path in (self.folder / "images" / "building").iterdir()]


def program(folder: Path, name: str, script: str) -> Path:
    """A shell script that poses as a program on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def with_path(folder: Path, environment: Mapping[str, str] = BARE) -> dict[str, str]:
    """An environment that finds the programs of a folder first."""
    return {**environment, "PATH": f"{folder}:{environment['PATH']}"}
