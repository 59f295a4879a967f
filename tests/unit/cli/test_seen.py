"""How list, describe and events show functions: pure, from objects as an API server has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.cli import description, events, list_functions, notices, output, seen
from knative_lambda.cluster.base import Object

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIGEST = "sha256:" + "3f9a0c1b2d4e" + "0" * 52


def fn(*, spec: Any = None, **status: Any) -> Object:
    return {
        "metadata": {"namespace": "shop", "name": "hello", "creationTimestamp": "2026-01-01T09:00:00Z"},
        "spec": spec
        or {"source": {"type": "inline", "inline": {"code": "x = 1\ny = 2"}}, "runtime": {"language": "python"}},
        "status": status,
    }


def ready(status: str, reason: str = "Ready", message: str = "") -> Object:
    return {"type": "Ready", "status": status, "reason": reason, "message": message}


READY = fn(
    phase="Ready",
    url="http://hello.shop.example.com",
    image=f"registry.example.com:5000/shop/hello@{DIGEST}",
    sourceStatus={"revision": "c" * 40},
    serviceStatus={"revision": "hello-00003", "replicas": 0},
    buildStatus={"jobName": "hello-1", "startedAt": "2026-01-01T09:00:01Z", "completedAt": "2026-01-01T09:00:13Z"},
    conditions=[ready("True")],
)


# ---- list ----


def test_a_row_is_short_where_people_look_and_whole_where_programs_do() -> None:
    row = seen.row(READY)
    (heading, _), (line, style) = list_functions.table([row], now=NOW, with_namespace=False)
    assert heading.split() == ["NAME", "READY", "PHASE", "REVISION", "URL", "IMAGE", "AGE"]
    assert line.split() == [
        "hello", "True", "Ready", "cccccccc", "http://hello.shop.example.com", "hello@sha256:3f9a0c1b2d4e", "3h",
    ]  # fmt: skip
    assert style is None
    assert (row.told()["revision"], row.told()["image"].rpartition("@")[2]) == ("c" * 40, DIGEST)


def test_columns_line_up_and_namespaces_stand_first_when_there_are_many() -> None:
    rows = [seen.row(READY), seen.row(fn(conditions=[ready("False", "BuildFailed", "no")], phase="Failed"))]
    lines = list(list_functions.table(rows, now=NOW, with_namespace=True))
    assert [style for _, style in lines] == ["bold", None, "red"]
    assert {line.index(word) for (line, _), word in zip(lines, ["READY", "True", "False"], strict=True)} == {18}
    assert lines[0][0].startswith("NAMESPACE  NAME")


def test_what_nobody_looked_at_yet_is_unknown() -> None:
    new = fn()
    del new["status"]
    assert (seen.row(new).ready, seen.row(new).url) == ("Unknown", "")
    assert seen.readiness(new) == "its controller has not looked at it yet"
    assert seen.readiness(fn(conditions=[ready("False", "BuildFailed", "exit 1")])) == "BuildFailed: exit 1"
    assert seen.readiness(READY) == ""


def test_a_cluster_cannot_move_the_cursor_of_who_lists() -> None:
    evil = fn(phase="\x1b[2J\x07", conditions=[])
    text = "\n".join(line for line, _ in list_functions.table([seen.row(evil)], now=NOW, with_namespace=False))
    assert "\x1b" not in text
    assert "\\x1b[2J" in text
    assert output.legible("a\tb\n\x1b[31mc") == "a\tb\n\\x1b[31mc"


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        ("2026-01-01T11:59:15Z", "45s"),
        ("2026-01-01T11:58:01Z", "119s"),
        ("2026-01-01T11:57:00Z", "3m"),
        ("2026-01-01T06:59:59.123456Z", "5h"),
        ("2025-12-30T11:00:00Z", "2d"),
        ("2026-01-01T12:00:05Z", "0s"),
        ("", ""),
        ("yesterday", ""),
    ],
)
def test_ages_are_in_one_unit(moment: str, told: str) -> None:
    assert seen.age(moment, now=NOW) == told


@pytest.mark.parametrize(
    ("revision", "told"),
    [("c" * 40, "c" * 8), (DIGEST, "3f9a0c1b"), ("inline-710412d70ac3", "inline-710412d70ac3"), ("", "")],
)
def test_commits_and_digests_are_cut_and_words_are_not(revision: str, told: str) -> None:
    assert seen.short_revision(revision) == told


def test_names_may_carry_their_namespace() -> None:
    assert seen.key_of("hello", "shop") == Key("shop", "hello")
    assert seen.key_of("web/hello", "shop") == Key("web", "hello")


# ---- describe ----


def pairs(obj: Object) -> dict[str, str]:
    return dict(description.describe(obj).pairs(now=NOW))


def test_a_description_says_what_is_asked_for_and_what_became_of_it() -> None:
    told = pairs(READY)
    assert told["Function"] == "shop/hello"
    assert told["Source"] == "inline, 2 lines"
    assert told["Runtime"] == "python 3.13, handler main.handler"
    assert told["Build"] == "Job hello-1, took 12 s"
    assert told["Serving"] == "hello-00003, 0 replicas"
    assert told["Created"] == "2026-01-01T09:00:00Z (3h ago)"
    assert "Triggers" not in told
    assert description.describe(READY).told()["dead_letter_queue"] is None


def test_triggers_come_with_their_filters_and_the_dead_letter_queue() -> None:
    spec = {
        "source": {"type": "git", "git": {"url": "https://git.example.com/a.git", "path": "functions/hello"}},
        "runtime": {"language": "nodejs", "handler": "app.run"},
        "env": [{"name": "TOKEN", "value": "hunter2"}],
        "triggers": [
            {"broker": "default", "filter": {"type": "order.placed", "attributes": {"region": "eu"}}},
            {"broker": "audit"},
        ],
    }
    told = pairs(fn(spec=spec))
    assert told["Triggers"] == "broker default: region=eu type=order.placed\nbroker audit: every event"
    assert told["Dead letters"].startswith("knative-lambda-dlq.shop.hello (kn-lambda dlq show shop/hello)")
    assert told["Source"] == "git: url https://git.example.com/a.git, path functions/hello"
    assert told["Runtime"] == "nodejs 22, handler app.run"
    assert told["Environment"] == "TOKEN"
    assert "hunter2" not in str(told)


def test_a_failed_build_shows_the_end_of_its_log() -> None:
    log = "\n".join(f"line {number}" for number in range(100))
    told = pairs(fn(buildStatus={"jobName": "hello-1", "startedAt": "2026-01-01T09:00:01Z", "error": log}))
    assert told["Build"].startswith("Job hello-1, runs since 2026-01-01T09:00:01Z, failed:\nline 85\n")
    assert told["Build"].endswith("line 99")


def test_git_is_named_as_the_owner_and_a_deletion_is_told() -> None:
    owned = fn(phase="Deleting")
    owned["metadata"] |= {
        "deletionTimestamp": "2026-01-01T11:00:00Z",
        "labels": {"lambda.knative.io/repository": "functions", "lambda.knative.io/repository-namespace": "git"},
    }
    assert pairs(owned)["Git owns it"] == "repository git/functions"
    assert pairs(owned)["Phase"] == "Deleting, is being deleted"


def test_a_spec_that_a_later_release_wrote_is_shown_as_it_is() -> None:
    later = fn(spec={"source": {"type": "quantum"}, "more": {"than": "we know"}})
    assert pairs(later)["Spec"] == "source:\n  type: quantum\nmore:\n  than: we know"
    assert list(seen.lines([("Spec", "a\nb"), ("X", "c")])) == ["Spec:  a", "       b", "X:     c"]


# ---- events ----


def happened(**event: Any) -> Object:
    return {
        "metadata": {"namespace": "shop", "name": "hello.1", "uid": "u", "creationTimestamp": "2026-01-01T09:00:00Z"},
        "regarding": {"kind": "LambdaFunction", "namespace": "shop", "name": "hello"},
        "type": "Warning",
        "reason": "BuildFailed",
        "note": "exit\n\x1b[2J1",
        **event,
    }


def test_an_event_is_one_line_without_control_characters() -> None:
    line = events.line(notices.notice(happened(eventTime="2026-01-01T10:00:00.5Z", series={"count": 3})))
    assert line[8:] == " Warning function shop/hello BuildFailed: exit\\n\\x1b[2J1 (3 times)"


@pytest.mark.parametrize(
    ("event", "at", "count"),
    [
        ({}, "2026-01-01T09:00:00Z", 1),
        ({"eventTime": "2026-01-01T10:00:00.000000Z"}, "2026-01-01T10:00:00.000000Z", 1),
        (
            {"eventTime": "2026-01-01T10:00:00Z", "series": {"count": 4, "lastObservedTime": "2026-01-01T11:00:00Z"}},
            "2026-01-01T11:00:00Z",
            4,
        ),
        ({"deprecatedLastTimestamp": "2026-01-01T08:00:00Z", "deprecatedCount": 2}, "2026-01-01T08:00:00Z", 2),
    ],
)
def test_the_time_of_an_event_is_when_it_last_happened(event: Object, at: str, count: int) -> None:
    found = notices.notice(happened(**event))
    assert (found.at, found.count) == (at, count)


def test_one_selection_per_kind_for_a_field_selector_knows_no_or() -> None:
    chosen = notices.selections("shop", "hello")
    assert [one.fields for one in chosen] == [
        "regarding.kind=LambdaFunction,regarding.name=hello",
        "regarding.kind=FunctionRepository,regarding.name=hello",
    ]
