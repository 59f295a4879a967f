"""Python functions on this machine: one virtual environment per interpreter and digest of dependencies.

A function that asks for a version runs with that one, if this machine has it; all others run with our own interpreter.

The first layer holds the shim's own pinned requirements and is made once; a function with requirements of its own gets
a copy of it that costs no space, into which they are installed. uv installs where it is found, pip elsewhere.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from knative_lambda.api.function import Language, Runtime
from knative_lambda.kit import digest
from knative_lambda.local.building import trees
from knative_lambda.local.building.commands import Command, CommandFailed, Terms, run
from knative_lambda.local.building.toolchains import dockerfile
from knative_lambda.local.building.toolchains.base import LOOPBACK, Launch, Layer, Place, Plan
from knative_lambda.local.building.toolchains.interpreters import Interpreter, Interpreters
from knative_lambda.runtimes.base import DEPENDENCIES, DOCKERFILE, RUNTIME

SHIM = f"{RUNTIME}/knative_lambda_shim.py"
PINS = f"{RUNTIME}/requirements.txt"
REQUIREMENTS = "requirements.txt"
VENV = "venv"
LAYOUT = "1"
"""Changes when layers are made in another way."""
_SAYS_NOTHING = re.compile(rb"\s*(#.*)?")
_PIP = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_RETRIES": "2",
    "PIP_DEFAULT_TIMEOUT": "15",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_PROGRESS_BAR": "off",
    "GIT_TERMINAL_PROMPT": "0",
    "PYTHONUNBUFFERED": "1",
}
_UV = {"UV_HTTP_TIMEOUT": "15", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never", "GIT_TERMINAL_PROMPT": "0"}
_UV_NOISE = ("Using Python ",)


class PythonToolchain:
    """See base.Toolchain."""

    def __init__(self, environment: Mapping[str, str], *, uv: str | None = None) -> None:
        """`environment` is what installers get, as commands.cleaned leaves it; `uv` the program, pip when None."""
        self._environment = dict(environment)
        self._uv = uv
        self._interpreters = Interpreters(environment, uv=uv)

    def plan(self, context: Path, runtime: Runtime) -> Plan:
        pins = (context / PINS).read_bytes()
        own = Interpreter.own()
        interpreter = self._interpreters.find(runtime.version) if runtime.version else own
        notes = () if interpreter and runtime.release() == interpreter.release else (_differs(runtime, own),)
        interpreter = interpreter or own
        key = digest.short("python", LAYOUT, *interpreter.identity, pins.decode(), length=40)
        layer = Layer(f"python-{key}", partial(self._fill_first, interpreter.program, pins))
        if _asks_for_something(context / DEPENDENCIES):
            shim = (context / SHIM).read_bytes()
            asked = digest.short(key, shim.decode(), trees.identity(context / DEPENDENCIES), length=40)
            layer = Layer(f"python-{asked}", partial(self._fill_own, context), parent=layer)
        return Plan(
            runtime=f"{Language.PYTHON.value} {interpreter.release}",
            layers=(layer,),
            launch=partial(_launch, dockerfile.command((context / DOCKERFILE).read_text())),
            notes=notes,
        )

    def _fill_first(self, program: str, pins: bytes, place: Place, terms: Terms) -> None:
        (place.made / REQUIREMENTS).write_bytes(pins)
        made = place.made / VENV
        if self._uv is not None:
            arguments = [self._uv, "venv", "--quiet", "--python", program, str(made)]
            run(Command("uv", arguments, place.made, self._environment | _UV), terms)
        else:
            arguments = [program, "-I", "-m", "venv", str(made)]
            run(Command("python -m venv", arguments, place.made, self._environment | _PIP), terms)
        self._install(place, place.made, ["--require-hashes", "--no-deps", "-r", REQUIREMENTS], terms)

    def _fill_own(self, context: Path, place: Place, terms: Terms) -> None:
        """In a folder that stays, for requirements may be packages beside them that are linked to."""
        folder = place.made / DEPENDENCIES
        shutil.copytree(context / DEPENDENCIES, folder, symlinks=True)
        self._install(place, folder, ["-r", REQUIREMENTS], terms)
        shim = [str(_interpreter(place.made)), "-I", str(context / SHIM)]
        try:
            run(Command("python", shim, folder, self._environment), terms)
        except CommandFailed as error:
            words = f"the function's requirements broke the server's own:\n{error.message}"
            raise CommandFailed(self._installer, error.code, words) from error

    def _install(self, place: Place, folder: Path, what: Sequence[str], terms: Terms) -> None:
        interpreter = str(_interpreter(place.made))
        if self._uv is not None:
            options = ["pip", "install", "--python", interpreter, "--compile-bytecode"]
            run(Command("uv", [self._uv, *options, *what], folder, self._environment | _UV, noise=_UV_NOISE), terms)
        else:
            options = ["-I", "-m", "pip", "install"]
            run(Command("pip", [interpreter, *options, *what], folder, self._environment | _PIP), terms)
        _move_paths(place)

    @property
    def _installer(self) -> str:
        return "pip" if self._uv is None else "uv"


def find_uv(environment: Mapping[str, str]) -> str | None:
    """uv on PATH, or beside the interpreter that runs us."""
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv", path=environment.get("PATH", "")) or (str(beside) if beside.is_file() else None)


def _differs(runtime: Runtime, own: Interpreter) -> str:
    wanted = runtime.release()
    advice = f"; with python{wanted} on PATH (uv python install {wanted}) it would get that" if runtime.version else ""
    return f"the function asks for python {wanted}, this machine runs it with {own.release}{advice}"


def _launch(words: Sequence[str], app: Path, layers: Sequence[Path]) -> Launch:
    """The Dockerfile's CMD by the layer's own interpreter, on loopback."""
    command = (str(_interpreter(layers[0])), *dockerfile.moved(words[1:], app))
    return Launch(command, {"HOST": LOOPBACK, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"})


def _interpreter(layer: Path) -> Path:
    return layer / VENV / "bin" / "python"


def _asks_for_something(dependencies: Path) -> bool:
    lines = (dependencies / REQUIREMENTS).read_bytes().splitlines()
    return any(_SAYS_NOTHING.fullmatch(line) is None for line in lines)


def _move_paths(place: Place) -> None:
    """Programs, links to packages beside the requirements and venv's own notes name the folder that they lie in."""
    venv = place.made / VENV
    packages = [folder for folder in venv.glob("lib/python*/site-packages") if folder.is_dir()]
    files = [venv / "pyvenv.cfg", *(venv / "bin").iterdir()]
    files += [file for folder in packages for pattern in ("*.pth", "__editable__*") for file in folder.glob(pattern)]
    files += [file for folder in packages for file in folder.glob("*.dist-info/direct_url.json")]
    for file in files:
        trees.replaced(file, place.made, place.final)
        if place.parent is not None:
            trees.replaced(file, place.parent, place.final)
