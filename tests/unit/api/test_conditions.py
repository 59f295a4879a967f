"""Conditions keep the time of their last transition; phases are derived from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from knative_lambda.api import conditions, phases
from knative_lambda.api.conditions import MESSAGE_LIMIT, Condition, Conditions, ConditionType, Reason, Status
from knative_lambda.api.phases import Phase

THEN = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
NOW = THEN + timedelta(minutes=5, microseconds=123456)


def _before(status: Status, reason: Reason = Reason.BUILDING) -> Condition:
    return Condition(
        type=ConditionType.BUILD_READY,
        status=status,
        reason=reason,
        message="before",
        last_transition_time=THEN,
        observed_generation=1,
    )


def _after(before: Status, mark: str, *, reason: Reason = Reason.BUILDING) -> Condition:
    seen = Conditions([_before(before)], generation=2, now=NOW)
    getattr(seen, mark)(ConditionType.BUILD_READY, reason, "after")
    (condition,) = seen.freeze()
    return condition


@pytest.mark.parametrize(
    ("before", "mark", "moved"),
    [
        (Status.UNKNOWN, "mark_unknown", False),
        (Status.UNKNOWN, "mark_true", True),
        (Status.UNKNOWN, "mark_false", True),
        (Status.TRUE, "mark_true", False),
        (Status.TRUE, "mark_false", True),
        (Status.TRUE, "mark_unknown", True),
        (Status.FALSE, "mark_false", False),
        (Status.FALSE, "mark_true", True),
    ],
)
def test_only_another_status_is_a_transition(before: Status, mark: str, moved: bool) -> None:
    assert _after(before, mark).last_transition_time == (NOW.replace(microsecond=0) if moved else THEN)


def test_another_reason_and_message_are_told_without_a_transition() -> None:
    condition = _after(Status.UNKNOWN, "mark_unknown", reason=Reason.WAITING_FOR_BUILD)
    assert (condition.reason, condition.message) == (Reason.WAITING_FOR_BUILD, "after")
    assert condition.last_transition_time == THEN


def test_a_condition_speaks_of_the_generation_that_was_looked_at() -> None:
    assert _after(Status.UNKNOWN, "mark_unknown").observed_generation == 2


def test_what_nobody_marks_is_dropped() -> None:
    seen = Conditions([_before(Status.TRUE)], generation=2, now=NOW)
    assert seen.freeze() == ()
    assert seen.get(ConditionType.BUILD_READY) is None


def test_conditions_come_in_the_order_in_which_they_are_declared() -> None:
    seen = Conditions([], generation=1, now=NOW)
    for kind in (ConditionType.TRIGGERS_READY, ConditionType.SOURCE_READY, ConditionType.READY):
        seen.mark_true(kind, Reason.READY)
    assert [one.type for one in seen.freeze()] == ["Ready", "SourceReady", "TriggersReady"]


def test_marking_twice_keeps_the_later_word() -> None:
    seen = Conditions([], generation=1, now=NOW)
    seen.mark_unknown(ConditionType.READY, Reason.PENDING)
    seen.mark_false(ConditionType.READY, Reason.BUILD_FAILED, "no")
    (condition,) = seen.freeze()
    assert (condition.status, condition.reason) == (Status.FALSE, Reason.BUILD_FAILED)


def test_messages_show_no_secret_and_only_their_end_when_they_are_long() -> None:
    seen = Conditions([], generation=1, now=NOW)
    seen.mark_false(ConditionType.READY, Reason.UNREACHABLE, "https://me:pw@example.com/x did not answer")
    seen.mark_false(ConditionType.BUILD_READY, Reason.BUILD_FAILED, "x" * MESSAGE_LIMIT + "the end")
    ready, build = seen.freeze()
    assert ready.message == "https://***@example.com/x did not answer"
    assert len(build.message) == MESSAGE_LIMIT
    assert build.message.endswith("the end")


def test_finding_a_condition_by_type() -> None:
    row = _before(Status.TRUE)
    assert conditions.find([row], ConditionType.BUILD_READY) is row
    assert conditions.find([row], ConditionType.READY) is None
    assert conditions.is_true([row], ConditionType.BUILD_READY)
    assert not conditions.is_true([_before(Status.UNKNOWN)], ConditionType.BUILD_READY)
    assert not conditions.is_true([], ConditionType.BUILD_READY)


PHASES: list[tuple[Phase, dict[ConditionType, Status]]] = [
    (Phase.PENDING, {}),
    (Phase.PENDING, {ConditionType.READY: Status.UNKNOWN, ConditionType.SOURCE_READY: Status.UNKNOWN}),
    (Phase.BUILDING, {ConditionType.READY: Status.UNKNOWN, ConditionType.SOURCE_READY: Status.TRUE}),
    (
        Phase.BUILDING,
        {
            ConditionType.READY: Status.UNKNOWN,
            ConditionType.SOURCE_READY: Status.TRUE,
            ConditionType.BUILD_READY: Status.UNKNOWN,
        },
    ),
    (
        Phase.DEPLOYING,
        {
            ConditionType.READY: Status.UNKNOWN,
            ConditionType.SOURCE_READY: Status.TRUE,
            ConditionType.BUILD_READY: Status.TRUE,
        },
    ),
    (Phase.READY, {ConditionType.READY: Status.TRUE, ConditionType.BUILD_READY: Status.TRUE}),
    (Phase.FAILED, {ConditionType.READY: Status.FALSE}),
    (Phase.FAILED, {ConditionType.READY: Status.FALSE, ConditionType.BUILD_READY: Status.TRUE}),
]


@pytest.mark.parametrize(("phase", "rows"), PHASES)
def test_the_phase_is_what_the_conditions_mean(phase: Phase, rows: dict[ConditionType, Status]) -> None:
    seen = [
        Condition(type=kind, status=status, reason=Reason.PENDING, last_transition_time=THEN)
        for kind, status in rows.items()
    ]
    assert phases.derive(seen, deleting=False) is phase


@pytest.mark.parametrize(("phase", "rows"), PHASES)
def test_a_function_that_is_being_deleted_is_deleting_whatever_else_holds(
    phase: Phase, rows: dict[ConditionType, Status]
) -> None:
    seen = [
        Condition(type=kind, status=status, reason=Reason.PENDING, last_transition_time=THEN)
        for kind, status in rows.items()
    ]
    assert phases.derive(seen, deleting=True) is Phase.DELETING
