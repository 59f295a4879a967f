"""kn-lambda init: what it writes is a function, and what is there stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from knative_lambda.cli.init import Runtime
from knative_lambda.runtimes import catalog
from tests.unit.cli.terminal import Terminal


@pytest.mark.parametrize("runtime", list(Runtime))
def test_what_is_written_is_a_valid_function_of_that_name(terminal: Terminal, runtime: Runtime) -> None:
    ended = terminal.run("init", "functions/hello", "--runtime", runtime.value)
    assert (ended.code, ended.err) == (0, "")
    checked = terminal.run("validate", "functions/hello", "-o", "json")
    assert checked.code == 0, checked.out
    assert [one["name"] for one in checked.json["functions"]] == ["hello"]
    written = yaml.safe_load((terminal.here / "functions/hello/function.yaml").read_text())
    assert written["spec"]["runtime"]["language"] == runtime.value
    assert "{{" not in "".join(path.read_text() for path in (terminal.here / "functions/hello").glob("[!f]*"))


def test_every_language_that_can_be_built_has_a_template() -> None:
    assert {runtime.value for runtime in Runtime} == {language.value for language in catalog.RUNTIMES}


def test_the_python_handler_answers_with_its_name(terminal: Terminal) -> None:
    terminal.run("init", "hello")
    scope: dict[str, object] = {}
    exec((terminal.here / "hello/main.py").read_text(), scope)
    handler = scope["handler"]
    assert callable(handler)
    assert handler(None) == {"message": "Hello from hello"}


def test_in_a_git_repository_the_schema_is_written_once_at_its_root(terminal: Terminal) -> None:
    (terminal.here / ".git").mkdir()
    first = terminal.run("init", "functions/one", "-o", "json").json
    assert "schemas/function.schema.json" in first["files"]
    second = terminal.run("init", "functions/two", "-o", "json").json
    assert "schemas/function.schema.json" not in second["files"]
    for name in ("one", "two"):
        file = terminal.here / "functions" / name / "function.yaml"
        comment = file.read_text().splitlines()[0]
        target = file.parent / comment.partition("$schema=")[2]
        assert comment.startswith("# yaml-language-server: $schema=../../schemas/")
        assert json.loads(target.read_text())["title"] == "function.yaml"


def test_in_the_folder_itself_the_name_is_the_folders(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    (terminal.here / "orders").mkdir()
    monkeypatch.chdir(terminal.here / "orders")
    assert terminal.run("init", "-o", "json").json["name"] == "orders"
    assert (terminal.here / "orders/function.schema.json").is_file()
    assert terminal.run("validate", ".").code == 0


@pytest.mark.parametrize("taken", ["function.yaml", "main.py", "README.md", "function.yml"])
def test_nothing_is_written_when_a_file_is_there(terminal: Terminal, taken: str) -> None:
    terminal.file(f"hello/{taken}", "mine\n")
    ended = terminal.run("init", "hello")
    assert (ended.code, ended.out) == (2, "")
    assert f"nothing was written, for hello/{taken} is there already" in ended.err
    assert [path.name for path in (terminal.here / "hello").iterdir()] == [taken]
    assert (terminal.here / "hello" / taken).read_text() == "mine\n"


def test_a_link_that_leads_nowhere_counts_as_there(terminal: Terminal, tmp_path: Path) -> None:
    (terminal.here / "hello").mkdir()
    (terminal.here / "hello/main.py").symlink_to(tmp_path / "elsewhere.py")
    assert terminal.run("init", "hello").code == 2
    assert not (tmp_path / "elsewhere.py").exists()


@pytest.mark.parametrize(
    ("directory", "proposed"),
    [
        ("My_Orders", "--name my-orders"),
        ("2024-report", "--name report"),
        ("ü" * 3, "cannot be"),
        ("a" * 60, "--name aaa"),
    ],
)
def test_a_directory_whose_name_is_none_for_a_function_gets_a_proposal(
    terminal: Terminal, directory: str, proposed: str
) -> None:
    ended = terminal.run("init", directory)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert proposed in ended.err
    assert not (terminal.here / directory).exists()


def test_another_name_than_the_directorys_can_be_given(terminal: Terminal) -> None:
    assert terminal.run("init", "My_Orders", "--name", "orders").code == 0
    assert yaml.safe_load((terminal.here / "My_Orders/function.yaml").read_text())["metadata"]["name"] == "orders"
    assert terminal.run("init", "other", "--name", "").code == 2


def test_a_file_in_the_way_is_an_error_in_one_line(terminal: Terminal) -> None:
    terminal.file("hello", "a file\n")
    ended = terminal.run("init", "hello")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert [path.name for path in terminal.here.iterdir()] == ["hello"]
