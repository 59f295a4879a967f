"""Node.js functions on this machine: node and npm from PATH, one node_modules per digest of dependencies.

The shim's own packages are one layer, a function's another; both are linked to from where Node.js looks for them.
"""

from __future__ import annotations

import json
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
from knative_lambda.runtimes.base import DEPENDENCIES, DOCKERFILE, RUNTIME

MODULES = "node_modules"
LAYOUT = "1"
"""Changes when layers are made in another way."""
ADVICE = "install Node.js 20 or newer with npm (https://nodejs.org/en/download) and save the function again"
_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_DEPENDENCY_FIELDS = ("dependencies", "optionalDependencies", "peerDependencies", "workspaces")
_INSTALL_SCRIPTS = ("preinstall", "install", "postinstall", "prepare")
_NPM = {
    "NODE_ENV": "production",
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
    "NPM_CONFIG_FUND": "false",
    "NPM_CONFIG_AUDIT": "false",
    "NPM_CONFIG_PROGRESS": "false",
    "NPM_CONFIG_COLOR": "false",
    "NPM_CONFIG_LOGS_MAX": "0",
    "NPM_CONFIG_FETCH_RETRIES": "1",
    "NPM_CONFIG_FETCH_RETRY_MINTIMEOUT": "1000",
    "NPM_CONFIG_FETCH_TIMEOUT": "60000",
    "GIT_TERMINAL_PROMPT": "0",
}
_NPM_NOISE = ("npm error Log files were not written", "npm error A complete log of this run")


class NodejsToolchain:
    """See base.Toolchain."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is what npm gets, as commands.cleaned leaves it."""
        self._environment = dict(environment)
        self._programs = Programs(environment, language="Node.js", advice=ADVICE)

    def plan(self, context: Path, runtime: Runtime) -> Plan:
        node, npm = self._programs.find("node"), self._programs.find("npm")
        version = self._programs.version(node, "--version")
        pins = [(context / RUNTIME / name).read_text() for name in ("package.json", "package-lock.json")]
        key = digest.short("nodejs", LAYOUT, node, version, *pins, length=40)
        layers = [Layer(f"nodejs-{key}", partial(self._fill_first, npm, pins))]
        links = {f"{RUNTIME}/{MODULES}": (0, MODULES)}
        if _asks_for_something(context / DEPENDENCIES):
            own = digest.short("nodejs", LAYOUT, node, version, trees.identity(context / DEPENDENCIES), length=40)
            layers.append(Layer(f"nodejs-{own}", partial(self._fill_own, npm, context)))
            links[MODULES] = (1, MODULES)
        major = version.removeprefix("v").partition(".")[0]
        differs = f"the function asks for nodejs {runtime.release()}, this machine runs it with {version}"
        return Plan(
            runtime=f"{Language.NODEJS.value} {major}",
            layers=tuple(layers),
            launch=partial(_launch, node, dockerfile.command((context / DOCKERFILE).read_text())),
            links=links,
            notes=() if runtime.release() == major else (differs,),
        )

    def _fill_first(self, npm: str, pins: Sequence[str], place: Place, terms: Terms) -> None:
        for name, text in zip(("package.json", "package-lock.json"), pins, strict=True):
            (place.made / name).write_text(text)
        self._npm(npm, ["ci", "--omit=dev", "--ignore-scripts"], place.made, terms)

    def _fill_own(self, npm: str, context: Path, place: Place, terms: Terms) -> None:
        """As the Dockerfile has it: with a lock file exactly that, without one what package.json allows."""
        shutil.copytree(context / DEPENDENCIES, place.made, symlinks=True, dirs_exist_ok=True)
        locked = any((place.made / name).is_file() for name in _LOCKS)
        self._npm(npm, ["ci" if locked else "install", "--omit=dev"], place.made, terms)
        (place.made / MODULES).mkdir(exist_ok=True)

    def _npm(self, npm: str, arguments: Sequence[str], folder: Path, terms: Terms) -> None:
        run(Command("npm", [npm, *arguments], folder, self._environment | _NPM, noise=_NPM_NOISE), terms)


def _launch(node: str, words: Sequence[str], app: Path, _layers: Sequence[Path]) -> Launch:
    """The Dockerfile's CMD by this machine's node, on loopback."""
    command = (node, *dockerfile.moved(words[1:], app))
    return Launch(command, {"HOST": LOOPBACK, "NODE_ENV": "production"})


def _asks_for_something(dependencies: Path) -> bool:
    """Whether npm has anything to do; of a package.json that is none, npm shall say so."""
    try:
        package = json.loads((dependencies / "package.json").read_bytes())
    except ValueError:
        return True
    if not isinstance(package, dict):
        return True
    scripts = package.get("scripts")
    named = scripts if isinstance(scripts, dict) else {}
    return any(package.get(field) for field in _DEPENDENCY_FIELDS) or any(name in named for name in _INSTALL_SCRIPTS)
