"""The Pythons of this machine by version: the one that runs us, and others that can be found. Called by python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knative_lambda.local.building.toolchains.programs import answered

SECONDS = 5.0
"""For a Python to say what it is; an end of local mode waits for that."""
_PROBE = """
import json, sys, sysconfig, venv
%s
print(json.dumps([*sys.version_info[:2], sys.executable, sys.version, sysconfig.get_platform(), sys.base_prefix]))
"""
_FOR_PIP = "import ensurepip"
"""Some distributions leave it out, and a virtual environment would have no pip."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One Python."""

    program: str
    release: str
    """3.13"""
    identity: tuple[str, ...]
    """What is installed for one interpreter is of no use to another."""

    @classmethod
    def own(cls) -> Interpreter:
        """The one that runs us."""
        return cls(
            sys.executable, _release(*sys.version_info[:2]), (sys.version, sysconfig.get_platform(), sys.base_prefix)
        )


class Interpreters:
    """For several threads at a time. What was found is remembered; what was not may be installed any moment."""

    def __init__(self, environment: Mapping[str, str], *, uv: str | None) -> None:
        """`environment` is what programs get, with the PATH on which they are looked for; `uv` finds more of them."""
        self._environment = {**environment, "UV_PYTHON_DOWNLOADS": "never"}
        self._uv = uv
        own = Interpreter.own()
        self._found = {own.release: own}

    def find(self, release: str) -> Interpreter | None:
        """A Python of that version that can make virtual environments."""
        if release not in self._found:
            probed = map(self._probed, self._candidates(release))
            found = next((one for one in probed if one is not None and one.release == release), None)
            if found is None:
                return None
            self._found[release] = found
        return self._found[release]

    def _candidates(self, release: str) -> Iterator[str]:
        """On PATH, where uv looks, and where pyenv keeps those that its `python3.X` on PATH refuses to start."""
        on_path = shutil.which(f"python{release}", path=self._environment.get("PATH", ""))
        if on_path is not None:
            yield on_path
        if self._uv is not None:
            yield self._said([self._uv, "python", "find", "--no-project", "--system", release]).strip()
        pyenv = self._environment.get("PYENV_ROOT") or Path(self._environment.get("HOME", "/nonexistent"), ".pyenv")
        kept = Path(pyenv, "versions").glob(f"{release}.*/bin/python{release}")
        yield from map(str, sorted(kept, key=_patch, reverse=True))

    def _probed(self, program: str) -> Interpreter | None:
        """None for what is no Python, or cannot do what is needed."""
        if not program:
            return None
        code = _PROBE % ("" if self._uv else _FOR_PIP)
        try:
            major, minor, executable, *identity = json.loads(self._said([program, "-I", "-c", code]))
        except ValueError:
            return None
        return Interpreter(executable, _release(major, minor), tuple(identity))

    def _said(self, command: Sequence[str]) -> str:
        """Nothing, when it cannot be run or fails."""
        try:
            done = answered(command, self._environment, seconds=SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout if done.returncode == 0 else ""


def _patch(program: Path) -> int:
    """10 of `versions/3.12.10/bin/python3.12`; what is no number comes last."""
    patch = program.parents[1].name.rpartition(".")[2]
    return int(patch) if patch.isdecimal() else -1


def _release(major: int, minor: int) -> str:
    return f"{major}.{minor}"
