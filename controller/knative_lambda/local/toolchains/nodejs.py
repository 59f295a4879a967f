"""Node.js functions on this machine: node and npm from PATH, one node_modules per digest of dependencies.

The shim's own packages are one layer, a function's another; both are linked to from where Node.js looks for them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from knative_lambda.api.function import Language, Runtime
from knative_lambda.kit import digest
from knative_lambda.local import trees
from knative_lambda.local.commands import Command, Terms, run
from knative_lambda.local.toolchains import dockerfile
from knative_lambda.local.toolchains.base import LOOPBACK, Launch, Layer, Place, Plan, ToolchainMissing
from knative_lambda.runtimes.base import DEPENDENCIES, DOCKERFILE, RUNTIME

MODULES = "node_modules"
GUARD = f"{RUNTIME}/loopback.cjs"
LAYOUT = "1"
"""Changes when layers are made in another way."""
ADVICE = "install Node.js 20 or newer with npm (https://nodejs.org/en/download) and save the function again"
_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_DEPENDENCY_FIELDS = ("dependencies", "optionalDependencies", "peerDependencies", "workspaces")
_INSTALL_SCRIPTS = ("preinstall", "install", "postinstall", "prepare")
_VERSION_SECONDS = 20.0
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


class NodejsToolchain:
    """See base.Toolchain."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is what npm gets, as commands.cleaned leaves it."""
        self._environment = dict(environment)
        self._versions: dict[tuple[str, int], str] = {}

    def plan(self, context: Path, runtime: Runtime) -> Plan:
        node, npm = self._program("node"), self._program("npm")
        version = self._version(node)
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
            files={GUARD: _loopback()},
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
        run(Command("npm", [npm, *arguments], folder, self._environment | _NPM), terms)

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=self._environment.get("PATH", ""))
        if found is None:
            raise ToolchainMissing(name, f"{name} is not found on PATH, and functions in Node.js need it: {ADVICE}")
        return found

    def _version(self, node: str) -> str:
        """Asked once per file: packages with native code are made for one version."""
        file = (node, Path(node).stat().st_mtime_ns)
        if file not in self._versions:
            self._versions[file] = _asked(node, self._environment)
        return self._versions[file]


def _asked(node: str, environment: Mapping[str, str]) -> str:
    command = [node, "--version"]
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainMissing("node", f"{node} cannot be started ({type(error).__name__}): {ADVICE}") from error
    if done.returncode != 0:
        raise ToolchainMissing("node", f"{node} does not work ({done.stderr.strip()[-200:]}): {ADVICE}")
    return done.stdout.strip()


def _launch(node: str, words: Sequence[str], app: Path, _layers: Sequence[Path]) -> Launch:
    """The Dockerfile's CMD by this machine's node, on loopback."""
    command = (node, "--require", str(app / GUARD), *dockerfile.moved(words[1:], app))
    return Launch(command, {"HOST": LOOPBACK, "NODE_ENV": "production"})


def _loopback() -> bytes:
    return resources.files("knative_lambda.local.toolchains").joinpath("files", "loopback.cjs").read_bytes()


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
