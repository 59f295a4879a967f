"""What `kubectl describe` will find, and what telling it may cost."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Forbidden, Invalid, Timeout, TooManyRequests, Unavailable
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.recorder import NOTE_BYTES, NOTICES, Recorder, Regarding

from .link import Link, running, settle

JOB = Regarding(kinds.JOB, Key("ns", "build-1"), uid="u-1", resource_version="7")


class Desk:
    """A recorder on a memory cluster."""

    def __init__(self, rate: float = 50.0) -> None:
        self.clock = ManualClock()
        self.cluster = MemoryCluster(clock=self.clock)
        self.link = Link(self.cluster, self.clock)
        self.recorder = Recorder(self.link, clock=self.clock, instance="pod-1", rate=rate)

    def tell(
        self,
        note: str,
        *,
        about: Regarding = JOB,
        reason: str = "Started",
        type: Literal["Normal", "Warning"] = "Normal",
    ) -> None:
        self.recorder.record(about, type=type, reason=reason, note=note, action="Build")

    async def events(self) -> list[dict[str, Any]]:
        return (await self.cluster.list(kinds.EVENT, limit=10_000)).items

    async def notes(self) -> list[str]:
        return [event["note"] for event in await self.events()]


async def test_a_notice_becomes_an_event_beside_its_object() -> None:
    desk = Desk()
    async with running(desk.recorder.run()):
        desk.tell("building with kaniko")
        await desk.clock.advance(1)
        [event] = await desk.events()
    assert event["metadata"]["namespace"] == "ns"
    assert event["metadata"]["name"].startswith("build-1.")
    assert (event["apiVersion"], event["kind"]) == ("events.k8s.io/v1", "Event")
    assert event["regarding"] == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "namespace": "ns",
        "name": "build-1",
        "uid": "u-1",
        "resourceVersion": "7",
    }
    told = {name: event[name] for name in ("type", "reason", "note", "action", "eventTime")}
    assert told == {
        "type": "Normal",
        "reason": "Started",
        "note": "building with kaniko",
        "action": "Build",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    }
    assert (event["reportingController"], event["reportingInstance"]) == ("knative-lambda", "pod-1")
    assert "series" not in event


async def test_events_about_objects_without_a_namespace_go_to_the_default_one() -> None:
    desk = Desk()
    desk.tell("seen", about=Regarding(kinds.NAMESPACE, Key("", "ns"), uid="u-2"))
    await desk.recorder.drain()
    [event] = await desk.events()
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["regarding"]


async def test_the_same_notice_again_counts_up_the_first_at_most_once_a_minute() -> None:
    desk = Desk()
    async with running(desk.recorder.run()):
        for _ in range(30):
            desk.tell("still waiting")
            await desk.clock.advance(10)
        await desk.clock.advance(60)
        [event] = await desk.events()
    assert event["series"]["count"] == 30
    assert event["series"]["lastObservedTime"] == "2026-01-01T00:04:50.000000Z"
    assert len(desk.link.times("create")) == 1
    assert len(desk.link.times("patch")) <= 6


async def test_after_ten_quiet_minutes_the_same_notice_is_a_new_event() -> None:
    desk = Desk()
    async with running(desk.recorder.run()):
        desk.tell("again")
        await desk.clock.advance(599)
        desk.tell("again")
        await desk.clock.advance(601)
        desk.tell("again")
        await desk.clock.advance(1)
        assert len(await desk.events()) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"note": "other"},
        {"reason": "Other"},
        {"type": "Warning"},
        {"about": Regarding(kinds.JOB, Key("ns", "build-1"), uid="u-2")},
    ],
)
async def test_notices_that_differ_are_events_of_their_own(other: dict[str, Any]) -> None:
    desk = Desk()
    desk.tell("note")
    desk.tell(**{"note": "note", **other})
    await desk.recorder.drain()
    assert len(await desk.events()) == 2


async def test_repetitions_before_the_first_post_are_counted_in_it() -> None:
    desk = Desk()
    desk.tell("twice")
    desk.tell("twice")
    await desk.recorder.drain()
    [event] = await desk.events()
    assert (event["series"]["count"], len(desk.link.calls)) == (2, 1)


async def test_posting_keeps_to_its_rate_which_can_be_changed() -> None:
    desk = Desk(rate=10)
    for number in range(100):
        desk.tell(f"note {number}")
    async with running(desk.recorder.run()):
        await desk.clock.advance(2)
        assert 20 <= len(await desk.events()) <= 21
        desk.recorder.rate = 50
        await desk.clock.advance(1)
        assert 69 <= len(await desk.events()) <= 72


async def test_a_full_queue_drops_the_oldest_and_counts_them() -> None:
    desk = Desk()
    for number in range(NOTICES + 5):
        desk.tell(f"note {number}")
    assert (len(desk.recorder), desk.recorder.dropped) == (NOTICES, 5)
    desk.tell("note 0")
    await desk.recorder.drain()
    notes = await desk.notes()
    assert len(notes) == NOTICES
    assert "note 0" in notes
    assert "note 4" not in notes


async def test_failures_of_the_server_are_outlived_and_others_wait_meanwhile() -> None:
    desk = Desk()
    desk.cluster.fail_next("create", kinds.EVENT, Unavailable("500"))
    desk.cluster.fail_next("create", kinds.EVENT, TooManyRequests("429", retry_after=3))
    async with running(desk.recorder.run()):
        desk.tell("one")
        desk.tell("two")
        await desk.clock.advance(3)
        assert await desk.notes() == []
        await desk.clock.advance(2)
        assert sorted(await desk.notes()) == ["one", "two"]
    assert desk.recorder.dropped == 0


async def test_a_post_whose_answer_was_lost_is_not_made_twice() -> None:
    desk = Desk()
    desk.cluster.fail_next("create", kinds.EVENT, Timeout("no answer"), after=True)
    async with running(desk.recorder.run()):
        desk.tell("one")
        await desk.clock.advance(5)
        assert (await desk.notes(), desk.recorder.dropped) == (["one"], 0)


async def test_what_fails_for_good_is_dropped_quietly_and_can_be_told_again() -> None:
    desk = Desk()
    desk.cluster.fail_next("create", kinds.EVENT, Unavailable("500"), times=3)
    with capture_logs() as logs:
        async with running(desk.recorder.run()):
            desk.tell("one")
            await desk.clock.advance(10)
            assert (desk.recorder.dropped, await desk.notes()) == (1, [])
            desk.tell("one")
            await desk.clock.advance(1)
            assert await desk.notes() == ["one"]
    assert {line["log_level"] for line in logs} == {"debug"}


@pytest.mark.parametrize("error", [Forbidden("namespace is being terminated"), Invalid("reason is too long")])
async def test_refusals_are_not_argued_with(error: Forbidden | Invalid) -> None:
    desk = Desk()
    desk.cluster.fail_next("create", kinds.EVENT, error)
    desk.tell("one")
    await desk.recorder.drain()
    assert (len(desk.link.calls), desk.recorder.dropped) == (1, 1)


async def test_a_series_whose_event_has_expired_at_the_server_is_posted_anew() -> None:
    desk = Desk()
    async with running(desk.recorder.run()):
        desk.tell("one")
        await desk.clock.advance(1)
        [event] = await desk.events()
        await desk.cluster.delete(kinds.EVENT, Key("ns", event["metadata"]["name"]))
        desk.tell("one")
        await desk.clock.advance(61)
        [again] = await desk.events()
    assert again["series"]["count"] == 2


async def test_draining_writes_what_waits_and_what_was_counted_up() -> None:
    desk = Desk(rate=0.1)
    async with running(desk.recorder.run()):
        desk.tell("one")
        await desk.clock.advance(1)
        desk.tell("one")
        desk.tell("two")
    await desk.recorder.drain()
    assert {event["note"]: event.get("series", {}).get("count") for event in await desk.events()} == {
        "one": 2,
        "two": None,
    }


async def test_a_post_that_was_cut_off_by_the_end_is_made_by_the_drain() -> None:
    desk = Desk()
    desk.link.down = True
    async with running(desk.recorder.run()):
        desk.tell("one")
        await settle()
    desk.link.down = False
    await desk.recorder.drain()
    assert await desk.notes() == ["one"]


async def test_draining_does_not_wait_for_a_server_that_hangs() -> None:
    desk = Desk()
    desk.link.down = True
    desk.tell("one")
    async with running(desk.recorder.drain(5)) as [drain]:
        await desk.clock.advance(4.9)
        assert not drain.done()
        await desk.clock.advance(0.2)
        assert drain.done()
    assert (desk.recorder.dropped, len(desk.recorder)) == (1, 0)


async def test_notes_are_cut_to_what_the_server_takes_and_hold_no_secrets() -> None:
    desk = Desk()
    desk.tell("é" * 2000)
    desk.tell("clone of https://me:hunter2@forge.example/x failed")
    await desk.recorder.drain()
    long, secret = sorted(await desk.notes(), key=len, reverse=True)
    assert len(long.encode()) <= NOTE_BYTES
    assert long.endswith("é…")
    assert secret == "clone of https://***@forge.example/x failed"
