"""Functions as they run in an image: shim, functions-framework and the user's code, laid out and started here.

The servers are installed once into the project's cache folder, from the very lock files that images are built from.
Used by the tests of the shims and of docs/functions.md, and by the benchmark `functions`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knative_lambda.api.function import Language, Runtime
from knative_lambda.local.building.toolchains import dockerfile
from knative_lambda.runtimes import catalog
from tests.testbed import assets, processes
from tests.testbed.fixtures import give_up

LANGUAGES = (Language.PYTHON, Language.NODEJS)
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/test", "ce-type": "test.made"}
JSON = {"content-type": "application/json"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
_PINS = {Language.PYTHON: ("requirements.txt",), Language.NODEJS: ("package.json", "package-lock.json")}


class NotInstallable(Exception):
    """No network, no npm: the text says what."""


@dataclass(frozen=True)
class Answer:
    """Of a function; names of headers in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Serving:
    """A running function."""

    server: processes.Server
    port: int

    @property
    def log(self) -> str:
        return self.server.log.read_text()

    def ask(
        self, method: str = "POST", path: str = "/", *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def await_log(self, words: str, *, timeout: float = 10) -> None:
        """Logs are written beside the answer, not before it."""
        processes.wait_until(lambda: words in self.log, what=f"{words!r} in the log", timeout=timeout)


@dataclass(frozen=True)
class Installed:
    """A language with its server, ready to run functions."""

    language: Language
    folder: Path

    @property
    def code_file(self) -> str:
        return catalog.RUNTIMES[self.language].code_file

    def lay_out(self, root: Path, files: Mapping[str, str], handler: str | None = None) -> None:
        """The image's /app, at `root`."""
        runtime = catalog.RUNTIMES[self.language]
        for name, content in runtime.context_files(Runtime(language=self.language, handler=handler)).items():
            write(root / name, content)
        for name, text in files.items():
            write(root / "function" / name, text.encode())
        if self.language is Language.NODEJS:
            (root / "runtime" / "node_modules").symlink_to(self.folder / "node_modules")

    def command(self, root: Path) -> list[str]:
        """What the Dockerfile's CMD says, with this machine's interpreter."""
        program, *arguments = dockerfile.command((root / "Dockerfile").read_text())
        interpreter = [bare_python(), "-s"] if self.language is Language.PYTHON else [program]
        return [*interpreter, *dockerfile.moved(arguments, root)]

    def environment(self, root: Path, port: int) -> dict[str, str]:
        return {
            "PORT": str(port),
            "HOST": "127.0.0.1",
            "HOME": str(root),
            "PYTHONPATH": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            "NODE_PATH": "",
            "NODE_ENV": "production",
            "K_SERVICE": "hello",
            "K_REVISION": "hello-00001",
        }


@dataclass
class Shelf:
    """The functions of one language that run, by the names that tests give them."""

    installed: Installed
    run: processes.Run
    _started: dict[str, Serving] = field(default_factory=dict)

    @property
    def language(self) -> Language:
        return self.installed.language

    @property
    def code_file(self) -> str:
        return self.installed.code_file

    def serve(self, name: str, code: str, **environment: str) -> Serving:
        """One that listens, of one file; started by the first who asks."""
        return self.serve_files(name, {self.installed.code_file: code}, **environment)

    def serve_files(
        self, name: str, files: Mapping[str, str], *, handler: str | None = None, **environment: str
    ) -> Serving:
        if name not in self._started:
            serving = self.start(name, files, handler=handler, **environment)
            self._started[name] = serving
            serving.server.await_ready(lambda: processes.port_open(serving.port), timeout=60)
        return self._started[name]

    def start(self, name: str, files: Mapping[str, str], *, handler: str | None = None, **environment: str) -> Serving:
        """One that may never listen; nobody else gets it."""
        root = self.run.directory(f"{self.installed.language.value}-{name}")
        self.installed.lay_out(root, files, handler)
        port = processes.free_port()
        env = {**self.installed.environment(root, port), **environment}
        command = self.installed.command(root)
        return Serving(self.run.start(root.name, command, env=env, cwd=root / "function"), port)

    def end(self) -> None:
        for serving in self._started.values():
            serving.server.stop(grace=2)


@contextlib.contextmanager
def language_shelf(language: Language) -> Iterator[Shelf]:
    """For one module of tests; gives up loudly when the language cannot be had."""
    try:
        installed = install(language)
    except NotInstallable as reason:
        give_up(str(reason))
    with processes.Run.begin("shims") as run:
        shelf = Shelf(installed, run)
        yield shelf
        shelf.end()


def listens_within(serving: Serving, seconds: float) -> bool:
    """Whether somebody ever listens before the process ends, or so many seconds are over."""
    until = time.monotonic() + seconds
    while serving.server.running and time.monotonic() < until:
        if processes.port_open(serving.port):
            return True
        time.sleep(0.005)
    return False


def bare_python() -> str:
    """The interpreter below the virtual environment, whose packages are not the image's."""
    base: str = getattr(sys, "_base_executable", sys.executable)
    return base


def install(language: Language) -> Installed:
    """From the cache folder, filled on first use. Raises NotInstallable."""
    files = catalog.RUNTIMES[language].context_files(Runtime(language=language))
    wanted = {name: files[f"runtime/{name}"] for name in _PINS[language]}
    identity = hashlib.sha256(b"\0".join([sys.version.encode(), *wanted.values()])).hexdigest()[:16]
    folder = assets.cache_folder() / f"{language.value}-runtime-{identity}"
    if language is Language.NODEJS and shutil.which("node") is None:
        raise NotInstallable("node is not installed")
    if not folder.exists():
        _fill(language, wanted, folder)
    return Installed(language, folder)


def _fill(language: Language, files: Mapping[str, bytes], folder: Path) -> None:
    if language is Language.NODEJS and shutil.which("npm") is None:
        raise NotInstallable("npm is not installed")
    made = folder.with_name(f"{folder.name}-{os.getpid()}")
    for name, content in files.items():
        write(made / name, content)
    command = {
        Language.PYTHON: [
            sys.executable, "-m", "uv", "pip", "install", "-q", "--python", bare_python(), "--require-hashes",
            "--target", str(made), "-r", str(made / "requirements.txt"),
        ],
        Language.NODEJS: [
            "npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(made),
        ],
    }[language]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        shutil.rmtree(made)
        why = done.stderr[-300:] if done else "too slow"
        raise NotInstallable(f"the server of {language.value} cannot be installed: {why}")
    made.rename(folder)


def write(path: Path, content: bytes) -> None:
    """A file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
