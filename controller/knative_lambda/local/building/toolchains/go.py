"""Go functions on this machine: go from PATH compiles function and shim into one program, as the Dockerfile does.

The first layer holds the shim with the program that joins it to a function; the second is the function's own program,
so that it is compiled once for one code. Modules and compiled packages are shared through go's own caches.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from knative_lambda.api.function import Language, Runtime
from knative_lambda.kit import digest
from knative_lambda.local.building import trees
from knative_lambda.local.building.commands import Command, Terms, run
from knative_lambda.local.building.toolchains import dockerfile
from knative_lambda.local.building.toolchains.base import LOOPBACK, Launch, Layer, Place, Plan
from knative_lambda.local.building.toolchains.programs import Programs
from knative_lambda.runtimes.base import DOCKERFILE, FUNCTION, RUNTIME

COMPILE, SERVER = "compile", "server"
ENTRY = "runtime.json"
"""The only file of the shim's that differs from function to function."""
LAYOUT = "1"
"""Changes when layers are made in another way."""
ADVICE = "install Go 1.25 or newer (https://go.dev/dl) and save the function again"


class GoToolchain:
    """See base.Toolchain."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is what go gets, as commands.cleaned leaves it."""
        self._environment = dict(environment)
        self._programs = Programs(environment, language="Go", advice=ADVICE)

    def plan(self, context: Path, runtime: Runtime) -> Plan:
        go = self._programs.find("go")
        version = self._programs.version(go, "env", "GOVERSION").removeprefix("go")
        text = (context / DOCKERFILE).read_text()
        environment = self._environment | dockerfile.environment(text)
        shim = {
            path.relative_to(context).as_posix(): path.read_text()
            for path in sorted((context / RUNTIME).rglob("*"))
            if path.is_file() and path.name != ENTRY
        }
        key = digest.short("go", LAYOUT, version, environment.get("GOFLAGS", ""), shim, length=40)
        first = Layer(f"go-{key}", partial(_fill_first, go, context, environment))
        own = digest.short(key, trees.identity(context), length=40)
        layer = Layer(f"go-{own}", partial(_fill_own, context, environment), parent=first)
        here = ".".join(version.split(".")[:2])
        differs = f"the function asks for go {runtime.release()}, this machine compiles it with {version}"
        return Plan(
            runtime=f"{Language.GO.value} {here}",
            layers=(layer,),
            launch=partial(_launch, dockerfile.command(text)),
            notes=() if runtime.release() == here else (differs,),
        )


def _fill_first(go: str, context: Path, environment: Mapping[str, str], place: Place, terms: Terms) -> None:
    folder = place.made / RUNTIME
    shutil.copytree(context / RUNTIME, folder, ignore=shutil.ignore_patterns(ENTRY))
    arguments = [go, "build", "-o", str(place.made / COMPILE), f"./{COMPILE}"]
    run(Command("go", arguments, folder, environment), terms)


def _fill_own(context: Path, environment: Mapping[str, str], place: Place, terms: Terms) -> None:
    """On a copy of the function, to which what joins it to the shim is added."""
    copy = place.made / FUNCTION
    shutil.copytree(context / FUNCTION, copy, symlinks=True)
    entry = str(context / RUNTIME / ENTRY)
    arguments = [str(place.made / COMPILE), str(place.made / RUNTIME), entry, str(copy), str(place.made / SERVER)]
    run(Command("go", arguments, place.made, environment), terms)
    trees.remove(copy)


def _launch(words: Sequence[str], app: Path, layers: Sequence[Path]) -> Launch:
    """The program that was compiled, on loopback."""
    return Launch((str(layers[0] / SERVER), *dockerfile.moved(words[1:], app)), {"HOST": LOOPBACK})
