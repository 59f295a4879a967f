"""A dead letter that goes out again: as it came, without its death, in the mode that was asked for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from knative_lambda.events.encoding import InvalidEvent
from knative_lambda.events.mailbox import Parked
from knative_lambda.events.resending import Mode, message

pytestmark = pytest.mark.unit

JSON = "application/json"
EVENT = "application/cloudevents+json; charset=UTF-8"
ATTRIBUTES = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.placed", "subject": "a b"}
FAILURE = {"knativeerrorcode": "500", "knativeerrordest": "http://orders.shop.svc/", "knativeerrordata": "Ym9vbQ=="}
NOTES = {"knative-lambda-function": "orders", "knative-lambda-received": "2026-01-01T00:00:00Z"}
HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "e-1",
    "ce-source": "/shop",
    "ce-type": "order.placed",
    "ce-subject": "a%20b",
}


def binary(body: bytes = b'{"n": 1.10}', content_type: str = JSON, **more: str) -> Parked:
    failure = {f"ce-{name}": value for name, value in FAILURE.items()}
    return Parked(body, content_type, {**HEADERS, **failure, **NOTES, **more})


def structured(**more: Any) -> Parked:
    return Parked(json.dumps({**ATTRIBUTES, **more}).encode(), EVENT, NOTES)


def test_binary_goes_out_as_it_came_but_for_notes_and_failures() -> None:
    sent = message(binary())
    assert sent.body == b'{"n": 1.10}'
    assert sent.headers == {**HEADERS, "content-type": JSON}
    assert message(binary(), Mode.BINARY) == sent


def test_structured_goes_out_byte_for_byte() -> None:
    letter = Parked(b'{ "id":"e-1","source":"/s" , "data":{"n":1.10}}', EVENT, {**NOTES, "ce-knativeerrorcode": "500"})
    sent = message(letter)
    assert (sent.body, sent.headers) == (letter.body, {"content-type": EVENT})
    assert message(letter, Mode.STRUCTURED) == sent


def test_failure_is_taken_out_of_a_structured_event_and_nothing_else_changes() -> None:
    data = {"n": 2**80, "text": "knativeerrorcode é", "knativeerrorcode": "the function's own"}
    sent = message(structured(**FAILURE, data=data, retries=3))
    assert json.loads(sent.body) == {**ATTRIBUTES, "data": data, "retries": 3}


@pytest.mark.parametrize("body", [b'{"knativeerrorcode": ', b'["knativeerrorcode"]', b'\xff"knativeerror'])
def test_what_is_no_event_at_all_goes_out_as_it_came(body: bytes) -> None:
    assert message(Parked(body, EVENT, {})).body == body
    assert message(Parked(body, "", {})).headers == {}


def test_structured_becomes_binary() -> None:
    sent = message(structured(**FAILURE, data={"n": 1}, flag=True), Mode.BINARY)
    assert json.loads(sent.body) == {"n": 1}
    assert sent.headers == {**HEADERS, "ce-flag": "true", "content-type": JSON}


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"data": "text"}, b'"text"'),
        ({"data": "text", "datacontenttype": "text/plain"}, b"text"),
        ({"data_base64": base64.b64encode(b"\xff\x00").decode(), "datacontenttype": "image/png"}, b"\xff\x00"),
        ({}, b""),
    ],
)
def test_data_of_a_structured_event_becomes_a_body(given: dict[str, Any], body: bytes) -> None:
    sent = message(structured(**given), Mode.BINARY)
    assert sent.body == body
    assert message(Parked(sent.body, sent.headers.get("content-type", ""), sent.headers), Mode.BINARY) == sent


@pytest.mark.parametrize(
    ("body", "content_type", "data"),
    [
        (b'{"n":1.10}', JSON, {"data": {"n": 1.10}, "datacontenttype": JSON}),
        (b"[1]", "application/vnd.x+json; charset=utf-8", {"data": [1]}),
        (b"{", JSON, {"data_base64": "ew==", "datacontenttype": JSON}),
        (b"\xff\x00", "image/png", {"data_base64": "/wA=", "datacontenttype": "image/png"}),
        (b"{}", "", {"data_base64": "e30="}),
        (b"", "", {}),
    ],
)
def test_binary_becomes_structured(body: bytes, content_type: str, data: dict[str, Any]) -> None:
    sent = message(binary(body, content_type), Mode.STRUCTURED)
    assert sent.headers == {"content-type": "application/cloudevents+json; charset=UTF-8"}
    assert json.loads(sent.body) | data == json.loads(sent.body)
    assert set(json.loads(sent.body)) - {"datacontenttype"} == {*ATTRIBUTES, *data} - {"datacontenttype"}


BATCH, XML = "application/cloudevents-batch+json", "application/cloudevents+xml"


@pytest.mark.parametrize(("mode", "content_type"), [(Mode.STRUCTURED, JSON), (Mode.BINARY, BATCH), (Mode.BINARY, XML)])
def test_what_is_no_single_event_cannot_change_its_mode(mode: Mode, content_type: str) -> None:
    with pytest.raises(InvalidEvent):
        message(Parked(b"[]", content_type, {}), mode)


@pytest.mark.parametrize(("mode", "content_type"), [(Mode.BINARY, JSON), (Mode.STRUCTURED, BATCH), (Mode.AS_IS, XML)])
def test_what_is_in_that_mode_already_is_not_looked_at(mode: Mode, content_type: str) -> None:
    assert message(Parked(b"[]", content_type, {}), mode).body == b"[]"


def test_header_that_http_cannot_carry_is_percent_encoded() -> None:
    sent = message(Parked(b"", "a\r\nx: y", {"ce-a": "caf\xc3\xa9", "ce-b": "1\r\nevil: 2", "ce-c": "中 %41"}))
    assert sent.headers == {
        "ce-a": "caf%C3%A9",
        "ce-b": "1%0D%0Aevil: 2",
        "ce-c": "%E4%B8%AD %41",
        "content-type": "a%0D%0Ax: y",
    }
