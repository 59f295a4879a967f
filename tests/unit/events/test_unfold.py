"""Events that are handed on with their data unread: any data goes in, and comes out in binary mode."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from knative_lambda.events import encoding
from knative_lambda.events.encoding import InvalidEvent, Message, UnsupportedContent

STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=UTF-8"}
REQUIRED = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.placed"}


def structured(**more: Any) -> Message:
    return encoding.unfold(orjson.dumps({**REQUIRED, **more}), STRUCTURED)


def binary(body: bytes = b"", **headers: str) -> Message:
    named = {f"ce-{name}": value for name, value in REQUIRED.items()}
    return encoding.unfold(body, {**named, **{name.replace("_", "-"): value for name, value in headers.items()}})


@pytest.mark.parametrize(
    ("given", "content_type", "data"),
    [
        ({"data": {"total": 3}}, "application/json", b'{"total":3}'),
        ({"data": "hello"}, "application/json", b'"hello"'),
        ({"data": "hello", "datacontenttype": "text/plain"}, "text/plain", b"hello"),
        ({"data": [1], "datacontenttype": "application/vnd.shop+json"}, "application/vnd.shop+json", b"[1]"),
        ({"data_base64": "AAH/", "datacontenttype": "image/png"}, "image/png", b"\x00\x01\xff"),
        ({}, "", b""),
    ],
)
def test_structured_data_becomes_the_bytes_of_binary_mode(given: Any, content_type: str, data: bytes) -> None:
    message = structured(**given)
    assert (message.content_type, message.data) == (content_type, data)
    assert message.attributes == REQUIRED


def test_binary_data_stays_as_it_is_even_when_it_is_no_json() -> None:
    message = binary(b"<order/>", content_type="application/xml", ce_subject="a%20b")
    assert (message.content_type, message.data) == ("application/xml", b"<order/>")
    assert message.attributes == {**REQUIRED, "subject": "a b"}


def test_headers_of_binary_mode_come_back_as_they_went_out() -> None:
    message = structured(subject='10 % of "Müller"', data={"a": 1})
    headers = encoding.binary_headers(message)
    assert headers["ce-subject"] == "10%20%25%20of%20%22M%C3%BCller%22"
    assert headers["ce-source"] == "/shop"
    assert encoding.unfold(message.data, headers) == message


def test_numbers_are_told_apart_from_strings() -> None:
    message = structured(priority=1, urgent=True, shop="1")
    assert message.attributes == {**REQUIRED, "priority": "1", "urgent": "true", "shop": "1"}
    assert message.numbers == {"priority", "urgent"}


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (b"{", STRUCTURED, "the event is not JSON"),
        (b"[]", STRUCTURED, "the event must be a JSON object"),
        (b'{"specversion":"1.0","id":"1"}', STRUCTURED, "required and missing or empty: source, type"),
        (b"", {"ce-id": "1", "ce-type": "t", "ce-source": "/s"}, "required and missing or empty: specversion"),
        (orjson.dumps({**REQUIRED, "time": "yesterday"}), STRUCTURED, "time must be RFC 3339"),
        (orjson.dumps({**REQUIRED, "data": 1, "data_base64": ""}), STRUCTURED, "exclude each other"),
        (orjson.dumps({**REQUIRED, "data_base64": "%"}), STRUCTURED, "data_base64 is not base64"),
        (orjson.dumps({**REQUIRED, "Shop": "x"}), STRUCTURED, "'Shop' is not an attribute name"),
        (
            orjson.dumps({**REQUIRED, "data": 1, "datacontenttype": "a/b\r\nx-evil: 1"}),
            STRUCTURED,
            "datacontenttype holds control characters",
        ),
        (orjson.dumps({**REQUIRED, "data": 1, "datacontenttype": "a/ü"}), STRUCTURED, "no header can carry"),
    ],
)
def test_broken_event_is_refused_with_what_is_wrong(body: bytes, headers: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidEvent, match=told):
        encoding.unfold(body, headers)


def test_batch_plain_json_and_too_much_are_refused_each_in_its_way() -> None:
    with pytest.raises(UnsupportedContent, match="one event at a time"):
        encoding.unfold(b"[]", {"content-type": "application/cloudevents-batch+json"})
    with pytest.raises(UnsupportedContent, match="not a CloudEvent"):
        encoding.unfold(b"{}", {"content-type": "application/json"})
    with pytest.raises(InvalidEvent, match="11 bytes"):
        encoding.unfold(b"x" * 11, STRUCTURED, limit=10)
