"""The example in Go with `kn-lambda dev`: compiled by this machine's Go; without one, the others still run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from knative_lambda.cli import app
from tests.local.dev_process import Dev
from tests.testbed.fixtures import give_up

EXAMPLES = Path(__file__).parents[2] / "functions-example-repo"
COMPILING = 240.0
"""Go's own packages are compiled once per machine, which takes half a minute on two idle cores."""

ANY = "func Handler(*http.Request) {}\n"


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """The smallest ones."""
    copy = tmp_path / "examples"
    for name in ("hello-go", "hello-python"):
        shutil.copytree(EXAMPLES / "functions" / name, copy / "functions" / name)
    return copy


def test_function_in_go_answers_and_a_save_changes_what_it_says(examples: Path, tmp_path: Path) -> None:
    if shutil.which("go") is None:
        give_up("Go is not installed: the example in Go is not run")
    assert app.run(["init", str(examples / "functions" / "begun"), "--runtime", "go"], program="kn-lambda") == 0
    with Dev(examples, tmp_path / "state") as dev:
        dev.ready("hello-go", seconds=COMPILING)
        dev.ready("begun")
        assert dev.get("begun").json() == {"message": "Hello from begun"}
        assert dev.get("hello-go").text == "Hello from Go\n"
        code = examples / "functions" / "hello-go" / "main.go"
        saved = dev.now()
        code.write_text(code.read_text().replace("Hello from Go", "Hello again"))
        dev.ready("hello-go", after=saved)
        assert dev.get("hello-go").text == "Hello again\n"
        saved = dev.now()
        code.write_text("package hello\n\nfunc Other() {}\n")
        failed = dev.wait_for("function", name="hello-go", phase="Failed", after=saved)
        assert "the package . has no function Handler" in failed["message"]
        assert dev.get("hello-go").text == "Hello again\n"
        saved = dev.now()
        code.write_text('package hello\n\nimport "net/http"\n\nfunc init() { panic("no database") }\n\n' + ANY)
        failed = dev.wait_for("function", name="hello-go", phase="Failed", after=saved)
        assert "exit code 2: panic: no database" in failed["message"]
        assert dev.get("hello-go").text == "Hello again\n"
        assert dev.stop() == 0


def test_machine_without_go_says_so_of_that_function_alone(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = shutil.which("git")
    assert git is not None
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(programs))
    with Dev(examples, tmp_path / "state") as dev:
        failed = dev.wait_for("function", name="hello-go", phase="Failed")
        assert "go is not found on PATH, and functions in Go need it: install Go" in failed["message"]
        dev.ready("hello-python")
        assert dev.get("hello-python").text.strip() == "Hello from Python"
        assert dev.stop() == 0
