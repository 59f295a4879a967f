"""What every command has in common: names, help, errors, exit codes, colours, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

import pytest
import yaml

from knative_lambda import __version__
from knative_lambda.cli import app
from tests.unit.cli.terminal import ROOT, Terminal

ESCAPE = "\x1b["


def _process(
    *arguments: str, program: str = "kn-lambda", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, its streams piped."""
    code = f"import sys; sys.argv[0] = {program!r}; from knative_lambda.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
        timeout=60,
    )


def test_help_lists_every_command_and_the_exit_codes(terminal: Terminal) -> None:
    ended = terminal.run("--help")
    assert ended.code == 0
    for name in app.COMMANDS:
        assert f" {name} " in ended.out
    assert "0 done, 1 findings or differences, 2 usage or I/O error" in ended.out


def test_no_arguments_at_all_are_a_question_for_help(terminal: Terminal) -> None:
    assert terminal.run().out == terminal.run("--help").out


def test_help_imports_no_command_and_no_heavy_library() -> None:
    code = (
        "import sys; from knative_lambda.cli import app; app.run(['--help'], program='kn-lambda');"
        "heavy = {'pydantic', 'kubernetes', 'aiohttp', 'jsonschema_rs', 'git', 'yaml'};"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_teaches_by_example(terminal: Terminal, name: str) -> None:
    ended = terminal.run(name, "--help")
    assert ended.code == 0
    assert f"Usage: kn-lambda {name}" in ended.out
    assert f"kn-lambda {name}" in ended.out.split("Usage:", 1)[1].split("\n", 1)[1]


@pytest.mark.parametrize("name", ["", *app.COMMANDS, "dlq list", "dlq show", "dlq replay", "dlq purge"])
def test_help_fits_a_terminal_of_80_columns_and_is_not_broken_twice(
    terminal: Terminal, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that was broken in the source and is broken again leaves a short one in the middle of a paragraph."""
    monkeypatch.setenv("COLUMNS", "200")
    wide = _paragraphs(terminal.run(*name.split(), "--help").out)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = _paragraphs(terminal.run(*name.split(), "--help").out)
    [examples] = [one for one in wide if any(line.startswith(" kn-lambda ") for line in one)]
    assert examples in narrow, "an example does not fit"
    for prose in (one for one in wide if one != examples):
        assert all(len(line) > 150 for line in prose[:-1]), prose


def _paragraphs(out: str) -> list[list[str]]:
    """Of the text before the options; `\\b` makes an empty line of its own."""
    text = out.partition("╭")[0]
    blocks = "\n".join(line.rstrip() for line in text.splitlines()).split("\n\n")
    return [block.strip("\n").splitlines() for block in blocks if block.strip()]


@pytest.mark.parametrize("name", ["validate", "diff", "render", "schemas", "build-context"])
def test_commands_that_can_find_something_document_their_exit_codes(terminal: Terminal, name: str) -> None:
    assert "Exit codes: 0 " in terminal.run(name, "--help").out


@pytest.mark.parametrize("name", ["validate", "diff", "render", "schemas", "version"])
def test_commands_that_print_offer_text_and_json(terminal: Terminal, name: str) -> None:
    assert "--output" in terminal.run(name, "--help").out


@pytest.mark.parametrize("program", ["kn-lambda", "kubectl-lambda"])
def test_usage_shows_the_name_that_was_typed(program: str) -> None:
    assert f"Usage: {program} " in _process("--help", program=f"/usr/bin/{program}").stdout
    assert f"Usage: {program} version" in _process("version", "--help", program=program).stdout
    assert _process("nonsense", program=program).stderr.startswith(f"{program}: error: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["versio"], "No such command 'versio'. Did you mean 'version'? (see kn-lambda --help)"),
        (["version", "--nonsense"], "No such option: --nonsense (see kn-lambda version --help)"),
        (["version", "--output", "xml"], "'xml' is not one of 'text', 'json'"),
        (["validate"], "Missing argument 'PATH...'"),
        (["validate", "/does/not/exist"], "/does/not/exist: no such file or directory"),
        (["controller", "--config", "/does/not/exist"], "settings file /does/not/exist does not exist"),
        (["controller"], "no RabbitMQ is named"),
        (["controller", "--events", "none", "--workers", "0"], "workers: Input should be greater than or equal to 1"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_exit_code_2(terminal: Terminal, arguments: list[str], words: str) -> None:
    ended = terminal.run(*arguments)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.startswith("kn-lambda: error: ")
    assert ended.err.count("\n") == 1
    assert ended.out == ""


def test_a_traceback_is_shown_to_who_asks_for_it(terminal: Terminal) -> None:
    ended = terminal.run("--debug", "validate", "/does/not/exist")
    assert ended.code == 2
    assert "Traceback (most recent call last)" in ended.err
    assert ended.err.splitlines()[-1].startswith("kn-lambda: error: ")


def test_version_names_program_python_and_api(terminal: Terminal) -> None:
    assert terminal.run("version").out.startswith(f"kn-lambda {__version__} (Python 3.")
    assert terminal.run("version", "-o", "json").json["apiVersion"] == "lambda.knative.io/v1alpha1"


@pytest.mark.parametrize("arguments", [["--help"], ["schemas", "--help"], ["version"], ["schemas", "--crds"]])
def test_piped_output_has_no_colours(arguments: list[str]) -> None:
    done = _process(*arguments)
    assert done.returncode == 0
    assert ESCAPE not in done.stdout


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "knative_lambda", "schemas", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("program", ["kn-lambda", "kubectl-lambda"])
@pytest.mark.parametrize(
    ("typed", "completed"), [("va", "validate"), ("schemas --ch", "--check"), ("version --output js", "json")]
)
def test_the_shell_completes_commands_options_and_values(program: str, typed: str, completed: str) -> None:
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    words = f"{program} {typed}"
    asked = {variable: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert completed in _process(program=program, environment=asked).stdout.split()


def test_crds_can_be_piped_into_kubectl() -> None:
    found = list(yaml.safe_load_all(_process("schemas", "--crds").stdout))
    assert [one["kind"] for one in found] == ["CustomResourceDefinition"] * 2


def test_it_is_a_plugin_of_kn_and_of_kubectl_by_the_names_of_its_programs() -> None:
    programs = {one.name: one.value for one in metadata.entry_points(group="console_scripts")}
    assert programs["kn-lambda"] == programs["kubectl-lambda"] == "knative_lambda.cli:main"
    readme = (ROOT / "README.md").read_text()
    assert "`kn lambda list`, `kubectl lambda list`" in readme
