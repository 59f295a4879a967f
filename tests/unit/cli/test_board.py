"""What `kn-lambda dev` shows: rows, lines, and JSON lines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from knative_lambda.api.events import Event
from knative_lambda.api.meta import ANNOTATION_REVISION, Key
from knative_lambda.cli import dev
from knative_lambda.cli.board import Row, row, told, told_delivery, told_link
from knative_lambda.cli.screens import JsonLines, Lines, LiveTable
from knative_lambda.local.messaging.delivery import Notice, What

HELLO = Key("default", "hello")
BROKER = Key("default", "orders")


def function(*, generation: int = 1, **status: Any) -> dict[str, Any]:
    annotations = {ANNOTATION_REVISION: "0123456789abcdef"}
    metadata = {"name": "hello", "namespace": "default", "generation": generation, "annotations": annotations}
    return {"metadata": metadata, "status": {"observedGeneration": 1, **status}}


def not_ready(message: str) -> list[dict[str, str]]:
    return [{"type": "Ready", "status": "False", "message": message}]


def test_row_has_the_reason_only_while_there_is_one() -> None:
    failed = row(function(phase="Failed", conditions=not_ready("no such module")))
    assert failed == Row(HELLO, "Failed", "no such module", "01234567", "")
    ready = row(function(phase="Ready", url="http://hello", conditions=[{"type": "Ready", "status": "True"}]))
    assert ready == Row(HELLO, "Ready", "", "01234567", "http://hello")


def test_status_of_an_older_spec_does_not_count() -> None:
    assert row(function(generation=2, phase="Ready")).phase == "Pending"
    assert row({"metadata": {"name": "hello", "namespace": "default", "generation": 1}}).phase == "Pending"


def test_only_what_a_person_wants_to_know_is_news() -> None:
    before = row(function(phase="Ready"))
    assert before.news(None)
    assert not before.news(before)
    assert row(function(phase="Failed", conditions=not_ready("gone"))).news(before)


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        (What.ACCEPTED, 0, "order.placed 7: accepted by broker orders"),
        (What.UNWANTED, 0, "order.placed 7: nobody asks broker orders for it"),
        (What.DELIVERED, 200, "order.placed 7: delivered to hello"),
        (What.FAILED, 500, "order.placed 7: not taken by hello: HTTP 500, attempt 2"),
        (What.FAILED, -1, "order.placed 7: not taken by hello: no answer, attempt 2"),
        (What.DEAD, 500, "order.placed 7: a dead letter of hello"),
    ],
)
def test_delivery_is_told_in_a_line(what: What, status: int, words: str) -> None:
    function_of = None if what in (What.ACCEPTED, What.UNWANTED) else HELLO
    assert told_delivery(Notice(what, BROKER, "order.placed", "7", function_of, status, attempt=2)) == words


def lifecycle(**data: Any) -> Event:
    return Event("id-1", "lambda.build.failed", "/knative-lambda/operator", datetime(2026, 1, 1, tzinfo=UTC), data)


def test_lifecycle_event_is_told_with_its_error() -> None:
    assert told(lifecycle(function_name="hello", error="exit code 1")) == "build.failed hello: exit code 1"
    assert told(lifecycle(function_name="hello", phase="Ready")) == "build.failed hello Ready"


def test_rabbitmq_that_is_away_is_told_with_what_goes_on_and_what_waits() -> None:
    assert told_link("RabbitMQ is away") == "lifecycle events wait, functions go on: RabbitMQ is away"
    assert told_link("") == "lifecycle events go out again"


def test_lines_cannot_talk_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().function(Row(HELLO, "Failed", "\x1b[2Jgone\nhello: Ready", "01234567", ""))
    Lines().link("\x1b[2Jaway")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.count("\n") == 2


def test_every_json_line_is_an_object_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    display = JsonLines()
    display.begin("http://127.0.0.1:8080", "functions")
    display.function(Row(HELLO, "Ready", "", "01234567", "http://hello"))
    display.event(lifecycle(function_name="hello"))
    display.delivery(Notice(What.DEAD, BROKER, "order.placed", "7", HELLO, 500, 6))
    display.problem("function.yaml:3: unknown runtime")
    display.link("RabbitMQ is away")
    display.link("")
    display.gone(HELLO)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = ["begin", "function", "event", "delivery", "problem", "link", "link", "deleted"]
    assert [line["kind"] for line in lines] == kinds
    assert [(line["connected"], line["message"]) for line in lines[5:7]] == [(False, "RabbitMQ is away"), (True, "")]
    assert (lines[3]["what"], lines[3]["function"], lines[3]["status"]) == ("dead", "default/hello", 500)
    assert all(datetime.fromisoformat(line["time"]) for line in lines)


def test_table_has_a_row_per_function_with_its_processes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {HELLO: Row(HELLO, "Ready", "", "01234567", "http://hello")}
    table = LiveTable(rows, lambda key: 3 if key == HELLO else 0)
    with table.drawn():
        table.begin("http://127.0.0.1:8080", "functions")
        table.delivery(Notice(What.DELIVERED, BROKER, "order.placed", "7", HELLO, 200, 1))
        table.link("RabbitMQ is away")
    shown = capsys.readouterr().out
    assert "order.placed 7: delivered to hello" in shown
    assert "lifecycle events wait, functions go on: RabbitMQ is away" in shown
    for part in ("hello", "Ready", "01234567", " 3 ", "delivered order.placed"):
        assert part in shown


def test_findings_are_told_by_file_and_line_and_hide_the_summary() -> None:
    finding = {"file": "a/function.yaml", "line": 3, "message": "unknown runtime"}
    status = {"findings": [finding, {"file": "b/function.yaml", "message": "is empty"}], "conditions": not_ready("2")}
    assert dev.problems({"status": status}) == ("a/function.yaml:3: unknown runtime", "b/function.yaml: is empty")


def test_repository_that_cannot_be_read_says_why() -> None:
    assert dev.problems({"status": {"conditions": not_ready("no such branch")}}) == ("no such branch",)
    assert dev.problems({}) == ()


def test_repository_without_functions_says_how_to_begin() -> None:
    applied = {"appliedRevision": "main@0123", "conditions": []}
    assert dev.problems({"status": applied}) == (dev.NO_FUNCTIONS,)
    assert dev.problems({"status": {**applied, "functions": 1}}) == ()
