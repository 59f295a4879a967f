"""Every command of docs/how-to/local.md, run as it stands, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.dev_process import Dev, copy_examples, environment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "local.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's home, with the example repository in it."""
    copy_examples(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(commands: str, port: str) -> str:
    """What a shell printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", commands.replace("8080", port)],
        env=environment() | {"PATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_of_the_page_does_what_it_says(home: Path) -> None:
    start, *others = BLOCKS
    assert start == "kn-lambda dev functions-example-repo\n"
    assert len(others) == 4
    call, event, letters, around = others
    with Dev(home / "functions-example-repo", None, "--backoff", "0.02") as dev:
        for name in ("hello-python", "order-events"):
            dev.ready(name)
        port = dev.url.rpartition(":")[2]
        assert run(call, port).count("Hello from Python") == 2
        run(event, port)
        dev.wait_for("delivery", what="delivered", id="1")

        saved = dev.now()
        orders = home / "functions-example-repo" / "functions" / "order-events" / "main.py"
        orders.write_text("def handler(event):\n    raise RuntimeError('closed')\n")
        dev.ready("order-events", after=saved)
        run(event, port)
        dev.wait_for("delivery", what="dead", after=saved)
        saved = dev.now()
        orders.write_text("def handler(event):\n    return None\n")
        dev.ready("order-events", after=saved)
        assert "1 delivered, 0 left" in run(letters, port)

        shown = run(around, port)
        assert "hello-nodejs" in shown
        assert "BuildReady" in shown
