"""Functions in Go as they run in an image: really compiled, as the Dockerfile does it.

Modules and the compiler's cache lie in the project's cache folder, from the very go.sum that images are built from;
where Go or the modules cannot be had, the reason is told, and in CI that is a failure. Used by the tests of the shims
and of docs/functions.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from knative_lambda.api.function import Language, Runtime
from knative_lambda.runtimes import go
from tests.contract.functions import Serving, Shelf, language_shelf, write
from tests.testbed import assets, processes
from tests.testbed.fixtures import give_up

CHOICE = "TESTED_HANDLER"
"""Says which of the handlers of one program it serves: a program for each would be linked for a second."""


@dataclass(frozen=True)
class Workbench:
    """Where functions are compiled."""

    run: processes.Run
    compiler: Path
    environment: dict[str, str]

    def compile(self, name: str, files: Mapping[str, str], handler: str | None = None) -> Path:
        """The image's /app; raises AssertionError with what the build says."""
        root = self.run.directory(name)
        for path, content in go.GoRuntime().context_files(Runtime(language=Language.GO, handler=handler)).items():
            write(root / path, content)
        for part in ("function", "src"):
            for path, text in files.items():
                write(root / part / path, text.encode())
        arguments = [root / "runtime", root / "runtime/runtime.json", root / "src", root / "server"]
        done = subprocess.run(
            [self.compiler, *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return root

    def serve(self, root: Path, **environment: str) -> Serving:
        serving = self.start(root, **environment)
        serving.server.await_ready(lambda: processes.port_open(serving.port), timeout=30)
        return serving

    def start(self, root: Path, **environment: str) -> Serving:
        """One that may never listen."""
        port = processes.free_port()
        known = {"PORT": str(port), "HOST": "127.0.0.1", "K_SERVICE": "hello", "K_REVISION": "hello-00001"}
        name = environment.get(CHOICE, root.name)
        return Serving(
            self.run.start(name, [root / "server"], env={**known, **environment}, cwd=root / "function"), port
        )


@dataclass
class GoShelf:
    """Many handlers in one program, which is compiled when the first is asked for; called like functions.Shelf."""

    bench: Workbench
    codes: Mapping[str, str]
    """Name -> the code of a package with a Handler."""
    language = Language.GO
    code_file = "main.go"
    _started: dict[str, Serving] = field(default_factory=dict)
    _built: list[Path] = field(default_factory=list)

    def serve(self, name: str, _code: str = "") -> Serving:
        if name not in self._started:
            self._started[name] = self.bench.serve(self.built(), **{CHOICE: name})
        return self._started[name]

    def start(self, name: str, _files: Mapping[str, str] | None = None, **environment: str) -> Serving:
        return self.bench.start(self.built(), **{CHOICE: name, **environment})

    def built(self) -> Path:
        if not self._built:
            packages = {f"p{number}": code for number, code in enumerate(self.codes.values())}
            files = {f"{package}/main.go": code for package, code in packages.items()}
            imports = "".join(f'\t"function/{package}"\n' for package in packages)
            entries = "".join(
                f"\t{_quoted(name)}: {package}.Handler,\n" for package, name in zip(packages, self.codes, strict=True)
            )
            files["main.go"] = (
                f'package main\n\nimport (\n\t"os"\n{imports})\n\n'
                f"var all = map[string]any{{\n{entries}}}\n\n"
                f'var handler = all[os.Getenv("{CHOICE}")]\n'
            )
            named = {name: _named(code, Path(name).parent.name) for name, code in files.items()}
            self._built.append(self.bench.compile("many", named, "handler"))
        return self._built[0]

    def end(self) -> None:
        for serving in self._started.values():
            serving.server.stop(grace=2)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _named(code: str, package: str) -> str:
    """Packages of a program differ in their names; what a name is does not matter to the shim."""
    return re.sub(r"^package \w+", f"package {package or 'main'}", code, count=1, flags=re.MULTILINE)


@contextlib.contextmanager
def workbench() -> Iterator[Workbench]:
    """For one module of tests; gives up loudly when Go cannot be had."""
    if shutil.which("go") is None:
        give_up("Go is not installed: the shim of go is not tried")
    version = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    identity = hashlib.sha256(b"\0".join([version.encode(), go.SHIPPED.read("go.sum")])).hexdigest()[:16]
    folder = assets.cache_folder() / f"go-runtime-{identity}"
    kept = {name: value for name, value in os.environ.items() if name not in {"GOFLAGS", "GOWORK"}}
    environment = {**kept, "GOMODCACHE": str(folder / "mod"), "GOCACHE": str(folder / "cache"), "GOTOOLCHAIN": "local"}
    with processes.Run.begin("go-shim") as run:
        shim = run.directory("shim")
        for name in go.SHIPPED.names:
            write(shim / name, go.SHIPPED.read(name))
        for package in (".", "./compile"):
            command = ["go", "build", "-trimpath", "-o", str(run.folder / "compile"), package]
            options = {**environment, "CGO_ENABLED": "0"}
            done = subprocess.run(command, cwd=shim, env=options, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                give_up(f"the shim of go cannot be compiled: {done.stderr[-500:]}")
        yield Workbench(run, run.folder / "compile", environment)


AnyShelf = Shelf | GoShelf


@contextlib.contextmanager
def any_shelf(language: Language, go_codes: Mapping[str, str]) -> Iterator[AnyShelf]:
    """For one module of tests; `go_codes` are all that it ever serves in Go."""
    if language is not Language.GO:
        with language_shelf(language) as interpreted:
            yield interpreted
        return
    with workbench() as bench:
        shelf = GoShelf(bench, go_codes)
        yield shelf
        shelf.end()
