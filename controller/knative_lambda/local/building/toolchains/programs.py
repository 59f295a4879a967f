"""The programs of this machine that a language needs: where they are, and which version. Called by nodejs and go.

`answered` is how any of them is asked about itself, also by interpreters.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from knative_lambda.local.building.toolchains.base import ToolchainMissing

SECONDS = 20.0


class Programs:
    """Those of one language. For several threads at a time."""

    def __init__(self, environment: Mapping[str, str], *, language: str, advice: str) -> None:
        """`environment` is theirs, with the PATH on which they are looked for; `advice` is for who has none."""
        self._environment = dict(environment)
        self._language = language
        self._advice = advice
        self._versions: dict[tuple[str, int], str] = {}

    def find(self, name: str) -> str:
        """The program's path; raises ToolchainMissing."""
        found = shutil.which(name, path=self._environment.get("PATH", ""))
        if found is None:
            words = f"{name} is not found on PATH, and functions in {self._language} need it: {self._advice}"
            raise ToolchainMissing(name, words)
        return found

    def version(self, program: str, *arguments: str) -> str:
        """What it says of itself, asked once per file: what it makes is made for one version."""
        file = (program, Path(program).stat().st_mtime_ns)
        if file not in self._versions:
            self._versions[file] = self._asked([program, *arguments])
        return self._versions[file]

    def _asked(self, command: list[str]) -> str:
        name = Path(command[0]).name
        try:
            done = answered(command, self._environment, seconds=SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            words = f"{command[0]} cannot be started ({type(error).__name__}): {self._advice}"
            raise ToolchainMissing(name, words) from error
        if done.returncode != 0:
            words = f"{command[0]} does not work ({done.stderr.strip()[-200:]}): {self._advice}"
            raise ToolchainMissing(name, words)
        return done.stdout.strip()


def answered(
    command: Sequence[str], environment: Mapping[str, str], *, seconds: float
) -> subprocess.CompletedProcess[str]:
    """What a program prints, and its exit code. Raises OSError or subprocess.TimeoutExpired."""
    return subprocess.run(
        command,
        env=dict(environment),
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        check=False,
    )
