"""The broker of local mode: who gets an event, how often, what is kept, and what comes back."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.events import encoding
from knative_lambda.events.memory_letters import MemoryLetters
from knative_lambda.events.sqlite import StateError
from knative_lambda.local.messaging.broker import BrokerOptions
from knative_lambda.local.messaging.delivery import What
from tests.unit.local.broker_desk import (
    AUDIT,
    BINARY,
    BROKER,
    DELIVERY,
    ORDERS,
    SINK,
    Called,
    Desk,
    Function,
    Reply,
    answering,
    until,
)

SERVICE = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": ORDERS.name}


def hanging(gate: asyncio.Event) -> Function:
    async def function(_: Called) -> Reply:
        await gate.wait()
        return Reply()

    return function


def gaps(desk: Desk) -> list[int]:
    """Seconds between calls."""
    return [round(after.at - before.at) for before, after in itertools.pairwise(desk.calls)]


# ---- who gets it ----


async def test_event_reaches_the_functions_that_want_it_as_it_came(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard(wanted={"type": "order.placed"})
        await desk.function(AUDIT)
        await desk.ready(await desk.trigger(AUDIT, wanted={"type": "order.paid"}))
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = await desk.post(b'{"total": 3}', ce_subject="a%20b", traceparent=trace)
        assert (answer.status_code, answer.content) == (202, b"")
        [call] = await desk.called(1)
        assert call.body == b'{"total": 3}'
        assert call.headers == {**BINARY, "ce-subject": "a%20b", "traceparent": trace}
        assert desk.calls_of(AUDIT) == []


async def test_structured_event_is_delivered_in_binary_mode(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard()
        envelope = {"specversion": "1.0", "id": "e-9", "source": "/s", "type": "t", "data": [1]}
        structured = {"content-type": "application/cloudevents+json"}
        assert (await desk.send("/broker/shop/default", orjson.dumps(envelope), structured)).status_code == 202
        [call] = await desk.called(1)
        assert (call.headers["ce-id"], call.headers["content-type"], call.body) == ("e-9", "application/json", b"[1]")


async def test_no_filter_is_everything_and_filters_are_ignored(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard(filters=[{"exact": {"type": "something.else"}}])
        await desk.post(ce_type="any.thing")
        assert (await desk.called(1))[0].headers["ce-type"] == "any.thing"


async def test_event_that_nobody_wants_is_accepted_and_told(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(wanted={"type": "order.paid"})
        assert (await desk.post()).status_code == 202
        assert [notice.what for notice in desk.notices] == [What.UNWANTED]
        assert desk.broker.waiting(trigger) == 0


async def test_broker_of_another_namespace_delivers_only_there(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard()
        await desk.make_broker(Key("other", "default"))
        await until(lambda: desk.broker._eventing.knows(Key("other", "default")))
        assert (await desk.post(path="/broker/other/default")).status_code == 202
        await desk.post(ce_id="mine")
        assert [call.headers["ce-id"] for call in await desk.called(1)] == ["mine"]


# ---- in which order ----


async def test_events_are_delivered_one_after_the_other_and_a_failing_one_holds_up_the_rest(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(answering(500, 200))
        for number in range(3):
            await desk.post(ce_id=f"e-{number}")
        await desk.called(1)
        await desk.clock.advance(1)
        assert desk.broker.waiting(trigger) == 3
        await desk.clock.advance(1)
        await desk.settled(trigger)
        assert [call.headers["ce-id"] for call in desk.calls] == ["e-0", "e-0", "e-1", "e-2"]


async def test_as_many_events_as_the_triggers_annotation_says_are_delivered_at_a_time(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(hanging(gate), parallelism="2")
        for number in range(6):
            await desk.post(ce_id=f"e-{number}")
        await desk.called(2)
        await asyncio.sleep(0.05)
        assert len(desk.calls) == 2
        await desk.trigger(ORDERS, parallelism="4")
        await desk.called(4)
        await asyncio.sleep(0.05)
        assert len(desk.calls) == 4
        gate.set()
        await desk.settled(trigger)


# ---- how often ----


async def test_failing_function_is_tried_six_times_with_growing_pauses_and_then_the_event_is_a_dead_letter(
    tmp_path: Path,
) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(answering(500))
        await desk.letters.ensure(ORDERS)
        await desk.post()
        [letter] = await desk.buried(1)
        assert gaps(desk) == [2, 4, 8, 16, 32]
        assert letter.body == b'{"total": 3}'
        assert letter.content_type == "application/json"
        failure = {
            "ce-knativeerrordest": "http://orders.shop.localhost:8080",
            "ce-knativeerrorcode": "500",
        }
        assert {name: value for name, value in letter.headers.items() if name.startswith("ce-")} == {
            **{name: value for name, value in BINARY.items() if name.startswith("ce-")},
            **failure,
        }
        await desk.settled(trigger)
        whats = [notice.what for notice in desk.notices]
        assert whats == [What.ACCEPTED, *[What.FAILED] * 6, What.DEAD]


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 413, 422])
async def test_status_that_is_not_retried_counts_as_delivered(tmp_path: Path, status: int) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(answering(status))
        await desk.post()
        await desk.called(1)
        await desk.settled(trigger)
        await desk.clock.advance(100)
        assert len(desk.calls) == 1
        assert desk.letters_of(ORDERS) == []


async def test_function_that_recovers_gets_the_event_and_nothing_is_dead(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(answering(503, 429, 404, 200))
        await desk.post()
        for count in range(1, 4):
            await desk.called(count)
            await desk.clock.advance(2**count)
        await desk.called(4)
        await desk.settled(trigger)
        assert desk.letters_of(ORDERS) == []
        assert [notice.what for notice in desk.notices][-1] is What.DELIVERED


async def test_function_that_hangs_is_given_up_after_the_timeout_of_each_attempt(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard(hanging(asyncio.Event()), delivery={**DELIVERY, "retry": 1, "timeout": "PT3S"})
        await desk.post()
        [letter] = await desk.buried(1)
        assert letter.headers["ce-knativeerrorcode"] == "-1"
        assert gaps(desk) == [3 + 2]


async def test_caller_that_breaks_is_no_answer_and_ends_no_queue(tmp_path: Path) -> None:
    async def breaks(called: Called) -> Reply:
        if called.headers["ce-id"] == "e-1":
            raise RuntimeError("a fault of ours")
        return Reply()

    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(breaks, delivery={"retry": 0})
        await desk.post()
        [letter] = await desk.buried(1)
        assert letter.headers["ce-knativeerrorcode"] == "-1"
        await desk.post(ce_id="e-2")
        await desk.called(2)
        await desk.settled(trigger)


async def test_trigger_without_delivery_inherits_its_brokers(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.make_broker(delivery={"retry": 2, "backoffPolicy": "linear", "backoffDelay": "PT10S"})
        await desk.function(ORDERS, answering(500))
        await desk.ready(await desk.trigger(ORDERS, delivery=None))
        await desk.post()
        await desk.buried(1)
        assert gaps(desk) == [10, 20]


# ---- nobody waits for somebody else ----


async def test_slow_and_failing_functions_hold_nobody_up(tmp_path: Path) -> None:
    gate = asyncio.Event()
    slow, failing = Key("shop", "slow"), Key("shop", "failing")
    async with Desk(tmp_path).running() as desk:
        await desk.standard()
        await desk.function(slow, hanging(gate))
        await desk.function(failing, answering(500))
        await desk.ready(await desk.trigger(slow, parallelism="10"), await desk.trigger(failing, parallelism="10"))
        answers = [await desk.post(ce_id=f"e-{number}") for number in range(30)]
        assert {answer.status_code for answer in answers} == {202}
        calls = await desk.called(30)
        assert [call.headers["ce-id"] for call in calls] == [f"e-{number}" for number in range(30)]
        assert len(desk.calls_of(slow)) == 10, "ten at a time, and no more"
        assert len(desk.calls_of(failing)) == 10
        gate.set()
        await desk.called(30, slow)


# ---- dead letters ----


@pytest.mark.parametrize(
    "delivery",
    [
        {"retry": 0},
        {"retry": 0, "deadLetterSink": {"uri": "http://somewhere.example/else"}},
        {"retry": 0, "deadLetterSink": {"ref": {"apiVersion": "v1", "kind": "Service", "name": "sink"}}},
    ],
)
async def test_dead_letter_is_parked_whatever_the_trigger_says_of_sinks(tmp_path: Path, delivery: Any) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard(answering(500), delivery=delivery)
        await desk.post()
        assert len(await desk.buried(1, ORDERS)) == 1


async def test_our_own_sink_says_whose_dead_letter_it_is(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        sink = {"uri": SINK.replace("orders", "audit")}
        await desk.standard(answering(500), delivery={"retry": 0, "deadLetterSink": sink})
        await desk.post()
        assert len(await desk.buried(1, AUDIT)) == 1
        assert desk.letters_of(ORDERS) == []


async def test_event_waits_on_disk_while_its_dead_letter_cannot_be_parked(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(answering(500), delivery={"retry": 0})
        desk.letters.disconnect()
        await desk.post()
        await desk.called(1)
        await desk.clock.advance(10)
        assert desk.broker.waiting(trigger) == 1
        desk.letters.connect()
        await desk.buried(1)
        await desk.settled(trigger)
        assert len(desk.calls) == 1, "parking again is not delivering again"


async def test_replayed_dead_letter_is_delivered_like_any_event(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard(answering(500, 200), delivery={"retry": 0})
        await desk.post()
        [letter] = await desk.buried(1)
        headers = {name: value for name, value in letter.headers.items() if name.startswith("ce-")}
        answer = await desk.send("/broker/shop/default", letter.body, {**headers, "content-type": letter.content_type})
        assert answer.status_code == 202
        assert (await desk.called(2))[1].headers["ce-id"] == "e-1"


# ---- replies ----


def replying(*, body: bytes = b'{"ok": true}', status: int = 200, **headers: str) -> Function:
    named = {**BINARY, "ce-type": "order.accepted", "ce-id": "r-1"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}

    async def function(_: Called) -> Reply:
        return Reply(status, named, body)

    return function


async def test_reply_goes_back_into_the_broker(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard(replying(), wanted={"type": "order.placed"})
        await desk.function(AUDIT)
        await desk.ready(await desk.trigger(AUDIT, wanted={"type": "order.accepted"}))
        await desk.post(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        [call] = await desk.called(1, AUDIT)
        assert (call.headers["ce-id"], call.body) == ("r-1", b'{"ok": true}')
        assert call.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c")


async def test_structured_reply_with_names_in_capitals_goes_back_too(tmp_path: Path) -> None:
    async def function(_: Called) -> Reply:
        body = orjson.dumps({"specversion": "1.0", "id": "r-2", "source": "/s", "type": "order.accepted"})
        return Reply(200, {"Content-Type": "application/cloudevents+json"}, body)

    async with Desk(tmp_path).running() as desk:
        await desk.standard(function, wanted={"type": "order.placed"})
        await desk.function(AUDIT)
        await desk.ready(await desk.trigger(AUDIT, wanted={"type": "order.accepted"}))
        await desk.post()
        assert (await desk.called(1, AUDIT))[0].headers["ce-id"] == "r-2"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"content-type": "application/json"}, b'{"no": "event"}'),
        Reply(200, {"content-type": "text/html"}, b"x" * 2_000_000),
        Reply(204),
        Reply(400, {**BINARY, "ce-type": "order.accepted"}, b"{}"),
        Reply(200, {"ce-id": "r-1", "ce-type": "order.accepted"}, b"broken"),
        Reply(200, {"content-type": "application/cloudevents-batch+json"}, b"[]"),
        Reply(200, {**BINARY, "ce-type": "order.accepted"}, b"x" * 2_000_000),
    ],
)
async def test_answer_that_is_no_event_is_ignored(tmp_path: Path, reply: Reply) -> None:
    async def function(_: Called) -> Reply:
        return reply

    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(function)
        await desk.post()
        await desk.called(1)
        await desk.settled(trigger)
        assert [notice.what for notice in desk.notices] == [What.ACCEPTED, What.DELIVERED]
        assert desk.letters_of(ORDERS) == []


async def test_loop_of_replies_ends_with_a_line_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = BrokerOptions(hops=4)
    async with Desk(tmp_path, options=options).running() as desk:
        trigger = await desk.standard(replying(ce_type="order.placed"))
        await desk.post()
        await desk.called(5)
        await desk.settled(trigger)
        await desk.clock.advance(100)
        assert len(desk.calls) == 5, "the event itself and four replies"
    assert "replies to replies have gone round too often" in capsys.readouterr().out


async def test_reply_that_does_not_fit_is_tried_again_without_calling_the_function_again(tmp_path: Path) -> None:
    gate = asyncio.Event()
    options = BrokerOptions(queue_length=1)
    async with Desk(tmp_path, options=options).running() as desk:
        trigger = await desk.standard(replying(), wanted={"type": "order.placed"})
        await desk.function(AUDIT, hanging(gate))
        await desk.ready(await desk.trigger(AUDIT, wanted={"type": "order.accepted"}))
        await desk.post(ce_type="order.accepted")
        await desk.called(1, AUDIT)
        await desk.post()
        await desk.called(1)
        await desk.clock.advance(3)
        assert desk.broker.waiting(trigger) == 1
        gate.set()

        async def is_through() -> bool:
            await desk.clock.advance(1)
            return len(desk.calls_of(AUDIT)) == 2

        await until(is_through)
        await desk.settled(trigger)
        assert len(desk.calls_of(ORDERS)) == 1


# ---- limits ----


async def test_full_queue_refuses_and_takes_events_again_when_there_is_room(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with Desk(tmp_path, options=BrokerOptions(queue_length=3)).running() as desk:
        trigger = await desk.standard(hanging(gate))
        assert [(await desk.post(ce_id=f"e-{number}")).status_code for number in range(3)] == [202] * 3
        refused = await desk.post(ce_id="e-3")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.text == "3 events wait for shop/orders already (Trigger shop/orders-trigger)\n"
        gate.set()
        await desk.settled(trigger)
        assert (await desk.post(ce_id="e-3")).status_code == 202


async def test_full_disk_is_507_and_nothing_is_counted_as_waiting(tmp_path: Path) -> None:
    async with Desk(tmp_path, options=BrokerOptions(store_bytes=200_000)).running() as desk:
        trigger = await desk.standard()
        refused = await desk.post(b"x" * 500_000)
        assert refused.status_code == 507
        assert "no room for more events on disk" in refused.text
        assert desk.broker.waiting(trigger) == 0
        assert (await desk.post()).status_code == 202
        await desk.called(1)


# ---- restarts ----


async def test_events_wait_for_the_next_start_and_go_to_the_trigger_that_is_made_again(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard(answering(503), parallelism="10")
        for number in range(25):
            await desk.post(ce_id=f"e-{number}")
        await desk.called(10)
    async with Desk(tmp_path).running() as desk:
        await desk.make_broker()
        trigger = Key("shop", "orders-trigger")
        assert desk.broker.waiting(trigger) == 25
        await desk.function(ORDERS)
        await desk.trigger(ORDERS)
        calls = await desk.called(25)
        assert [call.headers["ce-id"] for call in calls] == [f"e-{number}" for number in range(25)]
        await desk.settled(trigger)
    async with Desk(tmp_path).running() as desk:
        assert desk.broker.waiting(trigger) == 0


async def test_function_that_was_called_before_the_end_may_still_answer(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with Desk(tmp_path).running() as desk:
        await desk.standard(hanging(gate))
        await desk.post()
        await desk.called(1)
        asyncio.get_running_loop().call_later(0.1, gate.set)
    async with Desk(tmp_path).running() as desk:
        assert desk.broker.waiting(Key("shop", "orders-trigger")) == 0


async def test_end_waits_for_nobody_who_only_waits_himself(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.standard(answering(500))
        await desk.post()
        await desk.called(1)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 2
    async with Desk(tmp_path).running() as desk:
        assert desk.broker.waiting(Key("shop", "orders-trigger")) == 1


async def test_dead_letters_stay_when_the_store_of_events_is_of_a_newer_version(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "broker.db")) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(StateError, match=r"broker\.db was written by a newer kn-lambda"):
        Desk(tmp_path, letters=MemoryLetters())


# ---- Brokers and Triggers ----


async def test_broker_and_trigger_become_ready_in_the_words_of_knative(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.trigger(ORDERS)

        async def says(reason: str) -> bool:
            return (await desk.conditions(kinds.TRIGGER, trigger)).get("Ready", {}).get("reason") == reason

        await until(lambda: says("BrokerDoesNotExist"))
        await desk.make_broker()
        await until(lambda: says("Unable to get the Subscriber's URI"))
        await desk.function(ORDERS)
        await desk.ready(trigger)
        found = await desk.cluster.get(kinds.TRIGGER, trigger)
        assert found["status"]["subscriberUri"] == "http://orders.shop.localhost:8080"
        assert found["status"]["deadLetterSinkUri"] == SINK
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        broker = await desk.cluster.get(kinds.BROKER, BROKER)
        assert broker["status"]["address"]["url"] == "http://127.0.0.1:8080/broker/shop/default"
        assert {one["status"] for one in broker["status"]["conditions"]} == {"True"}


@pytest.mark.parametrize(
    ("more", "reason", "message"),
    [
        ({"delivery": {"backoffDelay": "1s"}}, "DeliveryInvalid", "delivery.backoffDelay must be an ISO 8601"),
        ({"parallelism": "0"}, "DeliveryInvalid", "parallelism must be a number from 1 to 1000, not '0'"),
        ({"parallelism": "1001"}, "DeliveryInvalid", "from 1 to 1000, not '1001'"),
        (
            {"subscriber": {"ref": SERVICE, "uri": "/orders"}},
            "Unable to get the Subscriber's URI",
            "local mode delivers to Knative Services only",
        ),
        (
            {"subscriber": {"uri": "http://example.com"}},
            "Unable to get the Subscriber's URI",
            "local mode delivers to Knative Services only",
        ),
    ],
)
async def test_trigger_that_cannot_work_here_says_why(tmp_path: Path, more: Any, reason: str, message: str) -> None:
    async with Desk(tmp_path).running() as desk:
        await desk.make_broker()
        await desk.function(ORDERS)
        trigger = await desk.trigger(ORDERS, **more)

        async def says() -> bool:
            ready = (await desk.conditions(kinds.TRIGGER, trigger)).get("Ready", {})
            return ready.get("reason") == reason and message in ready.get("message", "")

        await until(says)


async def test_changed_trigger_takes_effect_and_statuses_are_not_written_again_and_again(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(answering(500), delivery={"retry": 0})
        await desk.function(AUDIT)
        await desk.trigger(AUDIT, name=trigger.name)

        async def points_there() -> bool:
            found = await desk.cluster.get(kinds.TRIGGER, trigger)
            return bool(found["status"]["subscriberUri"] == "http://audit.shop.localhost:8080")

        await until(points_there)
        await desk.post()
        await desk.called(1, AUDIT)
        version = (await desk.cluster.get(kinds.TRIGGER, trigger))["metadata"]["resourceVersion"]
        await desk.function(AUDIT)
        await asyncio.sleep(0.05)
        assert (await desk.cluster.get(kinds.TRIGGER, trigger))["metadata"]["resourceVersion"] == version


async def test_queue_goes_with_its_trigger_and_with_it_what_is_under_way(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(hanging(gate), parallelism="10")
        for number in range(15):
            await desk.post(ce_id=f"e-{number}")
        await desk.called(10)
        await desk.cluster.delete(kinds.TRIGGER, trigger)
        await desk.settled(trigger)
        assert (await desk.post()).status_code == 202
        gate.set()
        await asyncio.sleep(0.05)
        assert len(desk.calls) == 10
    async with Desk(tmp_path).running() as desk:
        assert desk.broker.waiting(trigger) == 0


async def test_event_that_waits_for_its_next_attempt_goes_with_its_trigger(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(answering(500))
        await desk.post()
        await desk.called(1)
        await desk.cluster.delete(kinds.TRIGGER, trigger)
        await desk.settled(trigger)
        for _ in range(100):
            await desk.clock.advance(1)
        assert len(desk.calls) == 1
        assert desk.letters_of(ORDERS) == []


async def test_event_whose_sender_goes_while_it_is_stored_is_delivered_all_the_same(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard()
        accept, begun = desk.broker._backlog._database.run, asyncio.Event()

        async def slowly(work: Any) -> Any:
            begun.set()
            await asyncio.sleep(0.05)
            return await accept(work)

        desk.broker._backlog._database.run = slowly  # type: ignore[method-assign]
        message = encoding.unfold(b"{}", BINARY)
        sending = asyncio.create_task(desk.broker._publish(BROKER, message, {}, 0))
        await begun.wait()
        sending.cancel()
        await desk.called(1)
        await desk.settled(trigger)


async def test_listener_that_fails_disturbs_no_event(tmp_path: Path) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard()
        desk.broker._told = lambda _: 1 / 0  # type: ignore[assignment,return-value]
        assert (await desk.post()).status_code == 202
        await desk.called(1)
        await desk.settled(trigger)


# ---- trouble with the disk ----


async def rename(desk: Desk, old: str, new: str) -> None:
    """Makes the disk fail, or heals it."""
    await desk.broker._backlog._database.run(
        lambda connection: connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
    )


async def test_disk_that_fails_for_a_while_costs_no_event(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(hanging(gate), parallelism="10")
        for number in range(15):
            await desk.post(ce_id=f"e-{number}")
        await desk.called(10)
        await rename(desk, "delivery", "gone")
        refused = await desk.post(ce_id="e-15")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "events cannot be stored" in refused.text
        gate.set()
        await until(lambda: desk.broker.waiting(trigger) == 5)
        await rename(desk, "gone", "delivery")

        async def is_read_again() -> bool:
            await desk.clock.advance(1)
            return len(desk.calls) == 15

        await until(is_read_again)
        await desk.settled(trigger)
    async with Desk(tmp_path).running() as desk:
        assert desk.broker.waiting(trigger) == 10, "what could not be settled is delivered again: at least once"


async def test_queue_that_cannot_be_removed_is_removed_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Desk(tmp_path).running() as desk:
        trigger = await desk.standard(hanging(asyncio.Event()))
        await desk.post()
        await desk.called(1)
        await rename(desk, "delivery", "gone")
        await desk.cluster.delete(kinds.TRIGGER, trigger)
        said = ""

        def is_told() -> bool:
            nonlocal said
            said += capsys.readouterr().out
            return "queue of a Trigger that is gone cannot be removed" in said

        await until(is_told)
        await rename(desk, "gone", "delivery")
        await desk.clock.advance(10)
        await until(lambda: "a Trigger went with events in its queue" in capsys.readouterr().out)
    async with Desk(tmp_path).running() as desk:
        assert desk.broker.waiting(trigger) == 0
