"""The status of a Knative Service, held to what the test bed's Knative writes and to how the controller reads it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.local.conditions import differs
from knative_lambda.local.serving.serving_status import Standing, status
from knative_lambda.resources import observed

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "http://fn.ns.localhost:8080"


def standing(*, created: str = "fn-00001", ready: str = "", answers: bool | None = None, failure: str = "") -> Standing:
    answering = bool(ready) if answers is None else answers
    return Standing(Key("ns", "fn"), 3, URL, created, ready, answers=answering, failure=failure)


def read(written: dict[str, Any]) -> observed.ServiceSeen:
    metadata = {"name": "fn", "namespace": "ns", "uid": "u", "generation": 3}
    return observed.project_service({"metadata": metadata, "spec": {}, "status": written})


def told(written: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one.get("reason", "")) for one in written["conditions"]}


def test_a_first_revision_that_starts() -> None:
    written = status(standing(), {}, now=NOW)
    assert told(written) == {
        "ConfigurationsReady": ("Unknown", ""),
        "Ready": ("Unknown", ""),
        "RoutesReady": ("Unknown", "RevisionMissing"),
    }
    assert "url" not in written
    assert read(written).readiness.status == "Unknown"


def test_a_revision_that_is_ready() -> None:
    written = status(standing(ready="fn-00001"), {}, now=NOW)
    assert told(written) == {"ConfigurationsReady": ("True", ""), "Ready": ("True", ""), "RoutesReady": ("True", "")}
    seen = read(written)
    assert (seen.readiness.status, seen.url, seen.address, seen.revision) == ("True", URL, URL, "fn-00001")
    assert written["traffic"] == [{"latestRevision": True, "percent": 100, "revisionName": "fn-00001"}]


def test_a_first_revision_that_fails_tells_the_cause() -> None:
    written = status(standing(failure="Container failed with: exit code 1: no module"), {}, now=NOW)
    assert told(written)["Ready"] == ("False", "RevisionFailed")
    assert told(written)["RoutesReady"] == ("False", "RevisionMissing")
    readiness = read(written).readiness
    assert readiness.reason == "RevisionFailed"
    assert readiness.message == (
        'Revision "fn-00001" failed with message: Container failed with: exit code 1: no module.'
    )


def test_a_later_revision_that_fails_leaves_the_routes_as_they_are() -> None:
    written = status(standing(created="fn-00002", ready="fn-00001", failure="x"), {}, now=NOW)
    assert told(written)["RoutesReady"] == ("True", "")
    assert told(written)["Ready"] == ("False", "RevisionFailed")
    assert written["latestReadyRevisionName"] == "fn-00001"


def test_a_later_revision_that_starts() -> None:
    written = status(standing(created="fn-00002", ready="fn-00001"), {}, now=NOW)
    assert told(written)["Ready"] == ("Unknown", "")


def test_times_of_what_did_not_change_are_kept() -> None:
    before = status(standing(ready="fn-00001"), {}, now=NOW)
    again = status(standing(ready="fn-00001"), before, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert again == before
    assert not differs(again, before)
    later = status(standing(created="fn-00002", ready="fn-00001"), before, now=datetime(2027, 1, 1, tzinfo=UTC))
    times = {one["type"]: one["lastTransitionTime"] for one in later["conditions"]}
    assert times["RoutesReady"] == "2026-01-01T00:00:00Z"
    assert times["Ready"] == "2027-01-01T00:00:00Z"
    assert differs(later, before)
