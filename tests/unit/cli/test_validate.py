"""What a push would be refused for is told before it."""

from __future__ import annotations

import shutil

import pytest

from tests.unit.cli.terminal import ROOT, Terminal

GOOD = "spec:\n  runtime: {language: python}\n"
HANDLER = "def handler(request):\n    return ''\n"
INLINE = """\
apiVersion: lambda.knative.io/v1alpha1
kind: LambdaFunction
metadata: {name: NAME}
spec:
  source: {type: inline, inline: {code: "x = 1"}}
  runtime: {language: python}
"""
REPOSITORY = """\
apiVersion: lambda.knative.io/v1alpha1
kind: FunctionRepository
metadata: {name: functions}
spec:
  url: https://git.example.com/x.git
"""


def _function(terminal: Terminal, name: str, text: str = GOOD) -> None:
    terminal.file(f"functions/{name}/function.yaml", text)
    terminal.file(f"functions/{name}/main.py", HANDLER)


def test_the_example_repository_is_valid(terminal: Terminal) -> None:
    ended = terminal.run("validate", ROOT / "functions-example-repo")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "5 functions, 1 repository valid, 0 findings\n"


def test_a_copy_of_the_example_repository_is_valid_without_git(terminal: Terminal) -> None:
    shutil.copytree(ROOT / "functions-example-repo", terminal.here / "copy")
    found = terminal.run("validate", "copy", "-o", "json").json
    assert [one["name"] for one in found["functions"]] == [
        "hello-go",
        "hello-nodejs",
        "hello-python",
        "inline-greeting",
        "order-events",
    ]
    assert [one["name"] for one in found["repositories"]] == ["functions-example-repo"]
    assert found["findings"] == []


def test_every_example_function_names_the_schema_for_editors() -> None:
    files = sorted((ROOT / "functions-example-repo" / "functions").glob("*/function.yaml"))
    assert files
    for file in files:
        first = file.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (file.parent / first.split("=", 1)[1]).resolve() == ROOT / "schemas" / "function.schema.json"


def test_every_example_is_named_in_the_readme() -> None:
    readme = (ROOT / "functions-example-repo" / "README.md").read_text()
    for path in (ROOT / "functions-example-repo" / "functions").iterdir():
        assert f"](functions/{path.name})" in readme


def test_findings_name_file_line_and_pointer(terminal: Terminal) -> None:
    _function(terminal, "good")
    _function(terminal, "bad", "spec:\n  runtime: {language: pythn}\n  scalling: {}\n")
    ended = terminal.run("validate", ".")
    assert ended.code == 1
    first, second, summary = ended.out.splitlines()
    assert first.startswith("functions/bad/function.yaml:2: /spec/runtime/language: unknown runtime 'pythn'")
    assert second.startswith("functions/bad/function.yaml:3: /spec/scalling: unknown field scalling")
    assert summary == "1 function valid, 2 findings"


def test_json_says_the_same(terminal: Terminal) -> None:
    _function(terminal, "good")
    _function(terminal, "bad", "spec:\n  runtime: {language: pythn}\n")
    ended = terminal.run("validate", ".", "--output", "json")
    assert ended.code == 1
    assert ended.json["functions"] == [{"name": "good", "file": "functions/good/function.yaml", "line": 1}]
    (finding,) = ended.json["findings"]
    assert finding["file"] == "functions/bad/function.yaml"
    assert (finding["line"], finding["pointer"], finding["function"]) == (2, "/spec/runtime/language", "bad")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spec: {\n", "invalid YAML"),
        ("spec:\n  runtime: {language: python}\nspec: {}\n", "the key 'spec' is there twice"),
        ("spec:\n  runtime: {language: 3}\n", "/spec/runtime/language"),
        ("spec:\n  runtime: {language: nodejs}\n", "the handler index.handler needs a file"),
        ("spec:\n  runtime: {language: python}\n  scaling: {minReplicas: 60}\n", "must not exceed maxReplicas"),
        ("metadata: {name: " + "a" * 53 + "}\n" + GOOD, "the name has 53 characters; at most 52 are allowed"),
        ("", "the file is empty"),
    ],
)
def test_mistakes_are_told_in_words(terminal: Terminal, text: str, words: str) -> None:
    _function(terminal, "one", text)
    ended = terminal.run("validate", ".")
    assert ended.code == 1
    assert words in ended.out


def test_a_repository_cannot_talk_to_the_terminal(terminal: Terminal) -> None:
    _function(terminal, "one", GOOD + '  "\\e[31m:bug:": 1\n')
    ended = terminal.run("validate", ".")
    assert ended.code == 1
    assert "\x1b" not in ended.out
    assert "unknown field \\x1b[31m:bug:" in ended.out


def test_two_functions_of_one_name_are_both_found(terminal: Terminal) -> None:
    terminal.file("a.yaml", INLINE.replace("NAME", "same"))
    terminal.file("b.yaml", INLINE.replace("NAME", "same"))
    ended = terminal.run("validate", ".")
    assert ended.code == 1
    assert "a.yaml:3: /metadata/name: the name 'same' is also declared in b.yaml" in ended.out
    assert "b.yaml:3: /metadata/name: the name 'same' is also declared in a.yaml" in ended.out


def test_a_link_out_of_the_tree_is_found(terminal: Terminal) -> None:
    _function(terminal, "one")
    (terminal.here / "functions/one/passwd").symlink_to("/etc/passwd")
    ended = terminal.run("validate", ".")
    assert ended.code == 1
    assert "leads out of the function's directory: /etc/passwd" in ended.out


def test_one_file_is_judged_alone(terminal: Terminal) -> None:
    terminal.file("good.yaml", INLINE.replace("NAME", "good"))
    terminal.file("bad.yaml", INLINE.replace("NAME", "Bad"))
    assert terminal.run("validate", "good.yaml").out == "1 function valid, 0 findings\n"
    assert terminal.run("validate", "bad.yaml").code == 1
    assert terminal.run("validate", "good.yaml", "bad.yaml").out.endswith("1 function valid, 1 finding\n")


def test_a_directory_of_a_function_may_be_pointed_at_itself(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    _function(terminal, "hello")
    assert terminal.run("validate", "functions/hello").out == "1 function valid, 0 findings\n"
    monkeypatch.chdir(terminal.here / "functions/hello")
    assert terminal.run("validate", ".", "-o", "json").json["functions"][0]["name"] == "hello"


def test_watched_paths_are_looked_up_from_the_root_of_the_repository(terminal: Terminal) -> None:
    _function(terminal, "hello", GOOD + "  build: {watchPaths: [shared]}\n")
    terminal.file("shared/common.py", "x = 1\n")
    assert "the repository has no 'shared'" in terminal.run("validate", "functions/hello").out
    assert terminal.run("validate", "functions/hello", "--root", ".").code == 0
    (terminal.here / ".git").mkdir()
    assert terminal.run("validate", "functions/hello").code == 0


def test_a_path_outside_of_the_root_is_an_error(terminal: Terminal) -> None:
    _function(terminal, "hello")
    (terminal.here / "other").mkdir()
    ended = terminal.run("validate", "functions", "--root", "other")
    assert ended.code == 2
    assert "give another --root" in ended.err


def test_repositories_are_judged_too(terminal: Terminal) -> None:
    terminal.file("good.yaml", REPOSITORY)
    assert terminal.run("validate", "good.yaml").out == "0 functions, 1 repository valid, 0 findings\n"
    terminal.file("bad.yaml", REPOSITORY.replace("https://", "https://me:pw@") + "  intervall: 1m\n")
    ended = terminal.run("validate", "bad.yaml")
    assert ended.code == 1
    assert "bad.yaml:5: /spec/url: credentials do not belong in a URL" in ended.out
    assert "bad.yaml:6: /spec/intervall: unknown field intervall" in ended.out
    assert "pw" not in ended.out


def test_a_repository_that_is_no_yaml_is_a_finding(terminal: Terminal) -> None:
    terminal.file("bad.yaml", REPOSITORY + "  path: [\n")
    ended = terminal.run("validate", "bad.yaml")
    assert ended.code == 1
    assert "invalid YAML" in ended.out


def test_a_place_without_functions_is_an_error(terminal: Terminal) -> None:
    terminal.file("deployment.yaml", "kind: Deployment\n")
    for path in (".", "deployment.yaml"):
        ended = terminal.run("validate", path)
        assert ended.code == 2
        assert f"{path} holds no function" in ended.err
