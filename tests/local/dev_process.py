"""`kn-lambda dev` as its own process, started and asked the way a person does it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from knative_lambda.local.state import default_state

EXAMPLES = Path(__file__).parents[2] / "functions-example-repo"
COMMAND = (sys.executable, "-m", "knative_lambda")
READY_SECONDS = 60.0
"""What a machine that has pip and npm may take until the examples are Ready."""


class Dev:
    """With `--json`: what happens is read from its lines."""

    def __init__(self, place: Path, state: Path | None, *arguments: str) -> None:
        """`state` is the folder that the command finds by itself when not given."""
        self.state = state or default_state(str(place))
        beside = state.parent if state else place.parent
        self._log = beside / "dev.jsonl"
        self._errors = beside / "dev.err"
        chosen = ["--state-dir", str(state)] if state else []
        command = [*COMMAND, "dev", str(place), *chosen, "--port", "0", "--json", *arguments]
        with self._log.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment())
        self.url = str(self.wait_for("begin")["url"])

    def __enter__(self) -> Dev:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def lines(self) -> Iterator[dict[str, Any]]:
        for line in self._log.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)

    def wait_for(self, kind: str, *, seconds: float = READY_SECONDS, after: int = 0, **fields: Any) -> dict[str, Any]:
        """The first line of that kind with these fields, from line number `after` on."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for number, line in enumerate(self.lines()):
                if number >= after and line["kind"] == kind and fields.items() <= line.items():
                    return line
            assert self.process.poll() is None, self.told()
            time.sleep(0.05)
        raise AssertionError(f"no {kind} {fields} within {seconds:g} s:\n{self.told()}")

    def now(self) -> int:
        """How many lines there are: what comes later is new."""
        return len(list(self.lines()))

    def told(self) -> str:
        return self._log.read_text()[-4000:] + self._errors.read_text()[-4000:]

    def ready(self, name: str, *, after: int = 0, seconds: float = READY_SECONDS) -> dict[str, Any]:
        return self.wait_for("function", name=name, phase="Ready", after=after, seconds=seconds)

    def get(self, function: str) -> httpx.Response:
        """By path."""
        return httpx.get(f"{self.url}/fn/default/{function}", timeout=30)

    def send(self, event_type: str, event_id: str, data: dict[str, Any]) -> int:
        """To the default Broker; the status."""
        headers = {"ce-id": event_id, "ce-type": event_type, "ce-source": "/test", "ce-specversion": "1.0"}
        return httpx.post(f"{self.url}/broker/default/default", json=data, headers=headers, timeout=30).status_code

    def stop(self, number: int = signal.SIGINT) -> int:
        """The exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command, from another terminal."""
        return subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment()
        )


def environment() -> dict[str, str]:
    """Of a person who has no cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KN_LAMBDA_", "KUBE"))}
    return kept | {"PYTHONUNBUFFERED": "1"}


def copy_examples(folder: Path) -> Path:
    """The example repository, but for what has to be compiled first, which takes a minute."""
    return Path(shutil.copytree(EXAMPLES, folder / EXAMPLES.name, ignore=shutil.ignore_patterns("hello-go")))
