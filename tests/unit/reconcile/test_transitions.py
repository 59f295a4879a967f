"""Events of a status change, and what is kept of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from knative_lambda.api import events as api
from knative_lambda.api.events import Event
from knative_lambda.api.function import BuildStatus, FunctionStatus, ServiceStatus
from knative_lambda.api.phases import Phase
from knative_lambda.events import encoding
from knative_lambda.reconcile import outbox, transitions
from knative_lambda.reconcile.transitions import Subject
from knative_lambda.resources import observed
from tests import gen

SUBJECT = Subject(gen.lambda_function().key, "uid-1", 1, {"source": {}}, gen.NOW)
NOTHING = FunctionStatus()


def _status(**parts: Any) -> FunctionStatus:
    return FunctionStatus(observed_generation=1, **parts)


def _types(old: FunctionStatus, new: FunctionStatus, subject: Subject = SUBJECT) -> list[str]:
    return [event.type.removeprefix("lambda.") for event in transitions.events(subject, old, new)]


def _build(digest: str = "d1", **parts: Any) -> BuildStatus:
    return BuildStatus(digest=digest, job_name=f"job-{digest}", started_at=gen.NOW, **parts)


DONE = gen.NOW + timedelta(seconds=90)
BUILDING = _status(build_status=_build())
BUILT = _status(build_status=_build(image_uri="x@sha256:1", completed_at=DONE))
FAILED = _status(build_status=_build(error="no", completed_at=DONE))
SERVED = _status(build_status=BUILT.build_status, service_status=ServiceStatus(service_name="s", applied_hash="h1"))


@pytest.mark.parametrize(
    ("old", "new", "types"),
    [
        (NOTHING, _status(), ["function.created"]),
        (_status(), _status(), []),
        (_status(), BUILDING, ["build.started"]),
        (BUILDING, BUILT, ["build.completed"]),
        (_status(), BUILT, ["build.started", "build.completed"]),
        (BUILDING, FAILED, ["build.failed"]),
        (FAILED, FAILED, []),
        (BUILDING, _status(build_status=_build("d2")), ["build.cancelled", "build.started"]),
        (BUILT, _status(build_status=_build("d2")), ["build.started"]),
        (FAILED, _status(build_status=_build("d2")), ["build.started"]),
        (BUILDING, _status(build_status=None), ["build.cancelled"]),
        (BUILT, SERVED, ["service.created"]),
        (SERVED, SERVED.model_copy(update={"transitions": 1, "phase": Phase.READY}), ["status.updated"]),
        (
            SERVED,
            SERVED.model_copy(update={"service_status": ServiceStatus(service_name="s", applied_hash="h2")}),
            ["service.updated"],
        ),
        (
            SERVED,
            SERVED.model_copy(update={"phase": Phase.DELETING, "transitions": 1}),
            ["function.deleted", "service.deleted", "status.updated"],
        ),
    ],
)
def test_status_change_becomes_events(old: FunctionStatus, new: FunctionStatus, types: list[str]) -> None:
    assert _types(old, new) == types


def test_new_generation_is_an_update() -> None:
    later = replace(SUBJECT, generation=2)
    assert _types(_status(), FunctionStatus(observed_generation=2), later) == ["function.updated"]


def test_ids_do_not_hang_on_the_clock() -> None:
    later = replace(SUBJECT, now=gen.NOW + timedelta(hours=1))
    old, new = NOTHING, SERVED.model_copy(update={"transitions": 1, "phase": Phase.DEPLOYING})
    first = [event.id for event in transitions.events(SUBJECT, old, new)]
    assert first == [event.id for event in transitions.events(later, old, new)]
    assert len(set(first)) == len(first) == 5


def test_ids_differ_between_functions_and_builds() -> None:
    other = replace(SUBJECT, uid="uid-2")
    one = transitions.events(SUBJECT, _status(), BUILDING)[0]
    assert transitions.events(other, _status(), BUILDING)[0].id != one.id
    assert transitions.events(SUBJECT, _status(), _status(build_status=_build("d2")))[0].id != one.id


def test_build_event_says_how_long_it_took() -> None:
    event = transitions.events(SUBJECT, BUILDING, BUILT)[0]
    assert event.data["duration_seconds"] == 90
    assert event.extensions["lambdacategory"] == "build"


@pytest.mark.parametrize(("old", "new"), [(NOTHING, SERVED), (BUILDING, FAILED), (BUILDING, BUILT)])
def test_every_event_can_be_encoded_and_read_as_its_payload(old: FunctionStatus, new: FunctionStatus) -> None:
    for event in transitions.events(SUBJECT, old, new):
        assert encoding.encode(event)
        api.payload_of(api.EventType(event.type)).model_validate(event.data)


def test_data_that_is_too_big_loses_its_spec_by_name() -> None:
    big = replace(SUBJECT, spec={"source": {"inline": {"code": "x" * 20_000}}})
    event = transitions.events(big, NOTHING, _status())[0]
    assert "spec" not in event.data
    assert event.data["truncated"] == ["spec"]
    assert event.data["name"] == "hello"
    assert len(orjson.dumps(event.data)) <= transitions.DATA_LIMIT


def test_tombstone_of_a_function_without_our_finalizer_is_announced() -> None:
    raw = gen.raw_function("hello", gen.with_status(observedGeneration=1, serviceStatus={"serviceName": "hello"}))
    told = transitions.vanished(observed.project_function(raw), gen.NOW)
    assert [event.type for event in told] == ["lambda.function.deleted", "lambda.service.deleted"]
    gen.held()(raw)
    assert transitions.vanished(observed.project_function(raw), gen.NOW) == []


def test_function_that_nobody_ever_looked_at_dies_unannounced() -> None:
    assert transitions.vanished(observed.project_function(gen.raw_function()), gen.NOW) == []


# ---- the outbox ----


def _event(number: int, kind: str = "lambda.build.started", size: int = 10) -> Event:
    data = {"n": number, "fill": "x" * size}
    return Event(f"id-{number}", kind, api.SOURCE, gen.NOW, data, "tenant-1/hello", {"correlationid": "c"})


def test_events_come_out_of_the_outbox_as_they_went_in() -> None:
    event = _event(1)
    kept, lost = outbox.keep([event])
    assert outbox.revive(kept) == [event]
    assert lost == ()


def test_full_outbox_gives_up_the_oldest_status_updates_first() -> None:
    many = [_event(n, "lambda.status.updated" if n % 2 else "lambda.build.started") for n in range(80)]
    kept, lost = outbox.keep(many)
    assert len(kept) == 64
    assert [event.id for event in lost] == [f"id-{n}" for n in range(1, 32, 2)]


def test_full_outbox_without_status_updates_gives_up_the_oldest() -> None:
    kept, lost = outbox.keep([_event(n) for n in range(66)])
    assert [event.id for event in lost] == ["id-0", "id-1"]
    assert kept[0].id == "id-2"


def test_outbox_is_bounded_in_bytes_too() -> None:
    kept, lost = outbox.keep([_event(n, size=16_000) for n in range(30)])
    assert sum(len(one.data) for one in kept) <= outbox.BYTES_LIMIT
    assert len(kept) + len(lost) == 30
    assert lost
