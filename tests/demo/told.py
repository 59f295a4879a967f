"""What the demo says: steps, timelines, and commands with their output."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

console = Console(highlight=False)
"""For tables; lines go through `say`."""


def say(line: str) -> None:
    """One line, however long: addresses are to be copied."""
    console.print(line, soft_wrap=True)


@dataclass
class Timeline:
    """What happened when, in seconds since its start."""

    zero: float = field(default_factory=time.monotonic)
    seen: dict[str, float] = field(default_factory=dict)

    def note(self, what: str) -> None:
        """The first time that it is seen counts."""
        if what not in self.seen:
            self.seen[what] = time.monotonic() - self.zero
            say(f"  [green]{self.seen[what]:6.2f} s[/]  {what}")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Says what is going on and how long it took."""
    say(f"[bold]==>[/] {what} …")
    began = time.monotonic()
    yield
    say(f"    done in {time.monotonic() - began:.1f} s")


def kn_lambda(*arguments: str, rabbitmq: str) -> str:
    """Runs the command as a person would, with RabbitMQ's address in its environment; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "knative_lambda", *arguments],
        env=os.environ | {"KN_LAMBDA_RABBITMQ": rabbitmq},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"kn-lambda {' '.join(arguments)}: exit code {done.returncode}: {done.stderr}"
    return done.stdout


def show_command(*arguments: str, printed: str) -> None:
    """The command and what it printed, as on a terminal."""
    say(f"  [bold]$ kn-lambda {' '.join(arguments)}[/]")
    for line in printed.splitlines():
        console.print(f"    {line}", markup=False, soft_wrap=True)
