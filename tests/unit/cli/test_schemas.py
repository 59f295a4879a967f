"""Generated files are written, checked, and cleaned up; people's files are left alone."""

from __future__ import annotations

import yaml

from knative_lambda.api import generated
from tests.unit.cli.terminal import Terminal


def test_what_is_written_passes_the_check(terminal: Terminal) -> None:
    written = terminal.run("schemas", "--write", ".")
    assert written.code == 0
    assert f"{len(generated.files())} files, {len(generated.files())} changed" in written.out
    checked = terminal.run("schemas", "--check", ".")
    assert (checked.code, checked.out) == (0, f"{len(generated.files())} files, 0 outdated\n")


def test_writing_again_changes_nothing(terminal: Terminal) -> None:
    terminal.run("schemas", "--write", ".")
    assert terminal.run("schemas", "--write", ".", "-o", "json").json == {
        "files": len(generated.files()),
        "changed": [],
    }


def test_a_changed_and_a_missing_file_are_outdated(terminal: Terminal) -> None:
    terminal.run("schemas", "--write", ".")
    terminal.file("schemas/function.schema.json", "{}\n")
    (terminal.here / "docs/api/events.md").unlink()
    ended = terminal.run("schemas", "--check", ".")
    assert ended.code == 1
    assert "outdated: docs/api/events.md\noutdated: schemas/function.schema.json\n" in ended.out
    assert "run kn-lambda schemas --write" in ended.out
    assert terminal.run("schemas", "--check", ".", "-o", "json").json["outdated"] == [
        "docs/api/events.md",
        "schemas/function.schema.json",
    ]


def test_what_is_no_longer_generated_is_outdated_and_removed(terminal: Terminal) -> None:
    terminal.run("schemas", "--write", ".")
    left = terminal.file("schemas/events/lambda.old.type.schema.json", generated.json_text({"type": "object"}))
    own = terminal.file("docs/api/how-to-call.md", "# How to call a function\n")
    assert terminal.run("schemas", "--check", ".").code == 1
    assert "removed schemas/events/lambda.old.type.schema.json" in terminal.run("schemas", "--write", ".").out
    assert not left.exists()
    assert own.exists()
    assert terminal.run("schemas", "--check", ".").code == 0


def test_checking_an_empty_directory_names_every_file(terminal: Terminal) -> None:
    ended = terminal.run("schemas", "--check", ".")
    assert ended.code == 1
    assert ended.out.count("outdated: ") == len(generated.files())


def test_checking_what_is_not_there_is_an_error(terminal: Terminal) -> None:
    ended = terminal.run("schemas", "--check", "nowhere")
    assert (ended.code, ended.err) == (2, "kn-lambda: error: nowhere is not a directory\n")


def test_one_thing_at_a_time(terminal: Terminal) -> None:
    assert terminal.run("schemas", "--check", ".", "--crds").code == 2
    assert list(terminal.here.iterdir()) == []


def test_without_an_option_names_or_contents_are_printed(terminal: Terminal) -> None:
    assert terminal.run("schemas").out.splitlines() == list(generated.files())
    assert terminal.run("schemas", "-o", "json").json == generated.files()


def test_crds_are_printed_as_documents_or_as_a_list(terminal: Terminal) -> None:
    documents = list(yaml.safe_load_all(terminal.run("schemas", "--crds").out))
    listed = terminal.run("schemas", "--crds", "-o", "json").json
    assert listed == {"apiVersion": "v1", "kind": "List", "items": documents}
