"""CloudEvents on the wire; the `cloudevents` package's own reader and writer are the oracle."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from knative_lambda.api.events import Event
from knative_lambda.events import encoding
from knative_lambda.events.encoding import InvalidEvent, UnsupportedContent

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STRUCTURED = {"Content-Type": encoding.CONTENT_TYPE}
FULL = Event(
    id="0a1b",
    type="lambda.build.started",
    source="/knative-lambda/operator",
    time=datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
    data={"function_name": "héllo", "nested": {"list": [1, 2.5, None, True]}},
    subject="tenant/hello",
    extensions={"lambdacategory": "build", "correlationid": "c-1", "traceparent": "00-ab-cd-01"},
)
BARE = Event(id="1", type="t", source="s", time=NOW, data={})


def envelope(**changes: Any) -> bytes:
    base: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}
    return orjson.dumps({name: value for name, value in (base | changes).items() if value is not ...})


def headers(**changes: str) -> dict[str, str]:
    base = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/s",
        "ce-type": "t",
        "content-type": "application/json",
    }
    return {name: value for name, value in (base | changes).items() if value}


def decode(body: bytes, given: dict[str, str] = STRUCTURED, **options: Any) -> Event:
    return encoding.decode(body, given, received=NOW, **options)


@pytest.mark.parametrize("event", [FULL, BARE])
def test_what_is_encoded_is_decoded_again(event: Event) -> None:
    assert decode(encoding.encode(event)) == event


@pytest.mark.parametrize("event", [FULL, BARE])
def test_the_sdk_reads_what_we_write(event: Event) -> None:
    read = http.from_structured_event(http.HTTPMessage({"content-type": encoding.CONTENT_TYPE}, encoding.encode(event)))
    assert (read.get_id(), read.get_source(), read.get_type()) == (event.id, event.source, event.type)
    assert (read.get_time(), read.get_data()) == (event.time, event.data)
    assert (read.get_subject() or "", read.get_datacontenttype()) == (event.subject, "application/json")
    assert {name: read.get_extension(name) for name in event.extensions} == event.extensions


@pytest.mark.parametrize("write", [http.to_structured_event, http.to_binary_event])
def test_we_read_what_the_sdk_writes(write: Any) -> None:
    attributes = {
        "id": FULL.id, "type": FULL.type, "source": FULL.source, "time": FULL.time, "subject": "tenant/€ 100%",
        "datacontenttype": "application/json", **FULL.extensions,
    }  # fmt: skip
    message = write(CloudEvent(attributes, FULL.data), JSONFormat())
    assert decode(message.body, message.headers) == replace(FULL, subject="tenant/€ 100%")


def test_time_is_rfc3339_in_utc() -> None:
    assert orjson.loads(encoding.encode(FULL))["time"] == "2026-01-31T12:00:00.123456Z"


def test_a_time_of_another_zone_stays_the_same_moment() -> None:
    moved = replace(FULL, time=FULL.time.astimezone(timezone(timedelta(hours=2))))
    assert decode(encoding.encode(moved)).time == FULL.time


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"source": ""},
        {"source": "with blank"},
        {"type": ""},
        {"type": "with\nnewline"},
        {"time": datetime(2026, 1, 1)},
        {"extensions": {"Upper": "x"}},
        {"extensions": {"under_score": "x"}},
        {"extensions": {"id": "x"}},
        {"extensions": {"data": "x"}},
        {"extensions": {f"e{number}": "x" for number in range(65)}},
        {"extensions": {"correlationid": "x" * 5000}},
        {"data": {"a": object()}},
    ],
)
def test_an_event_that_is_none_is_not_encoded(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        encoding.encode(replace(FULL, **changes))


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
@pytest.mark.parametrize("value", [..., "", None])
def test_a_required_attribute_is_never_invented(name: str, value: Any) -> None:
    with pytest.raises(InvalidEvent, match=name):
        decode(envelope(**{name: value}))


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_required_header_is_never_invented(name: str) -> None:
    with pytest.raises(InvalidEvent, match=name):
        decode(b"{}", headers(**{f"ce-{name}": ""}))


def test_structured_content_is_structured_whatever_headers_a_proxy_added() -> None:
    event = decode(envelope(), STRUCTURED | {"ce-id": "of the proxy", "Ce-Traceparent": "x"})
    assert (event.id, event.extensions) == ("1", {})


def test_an_event_without_time_gets_the_moment_it_was_received() -> None:
    assert decode(envelope()).time == NOW


def test_decoding_twice_gives_the_same_event() -> None:
    assert decode(envelope()) == decode(envelope())


def test_nanoseconds_are_cut_to_microseconds() -> None:
    assert decode(envelope(time="2026-01-31t12:00:00.123456789z")).time == FULL.time


def test_booleans_and_integers_become_canonical_strings() -> None:
    event = decode(envelope(flag=True, off=False, count=-7, gone=None))
    assert event.extensions == {"flag": "true", "off": "false", "count": "-7"}


def test_dataschema_survives_the_round_trip() -> None:
    event = decode(envelope(dataschema="https://example.com/schema"))
    assert orjson.loads(encoding.encode(event))["dataschema"] == "https://example.com/schema"


def test_data_may_be_base64() -> None:
    body = envelope(data=..., data_base64=base64.b64encode(b'{"a": 1}').decode())
    assert decode(body).data == {"a": 1}


def test_data_may_be_absent() -> None:
    assert decode(envelope(data=...)).data == {}
    assert decode(b"", headers()).data == {}


def test_binary_mode_without_content_type_is_json() -> None:
    assert decode(b'{"a": 1}', headers(**{"content-type": ""})).data == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{", b'"text"', b"\xff\xfe",
        envelope(time="yesterday"), envelope(time="2026-01-31"), envelope(time="2026-01-31T12:00:00"),
        envelope(time="2026-02-31T12:00:00Z"), envelope(time="0001-01-01T00:00:00+14:00"), envelope(time=5),
        envelope(specversion="0.3"), envelope(subject=""), envelope(id={}), envelope(id=["1"]), envelope(extra=1.5),
        envelope(Extra="x"), envelope(**{"a-b": "x"}), envelope(data=[1]), envelope(data="text"),
        envelope(data_base64="e30="), envelope(data=..., data_base64="%"), envelope(data=..., data_base64=5),
        envelope(data=..., data_base64="ew=="), envelope(type="a\u0000b"),
    ],
)  # fmt: skip
def test_a_broken_envelope_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        decode(body)


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (b"{", headers()),
        (b"[]", headers()),
        (b"{}", headers(**{"ce-bad_name": "x"})),
        (b"{}", headers(**{"ce-datacontenttype": "application/json"})),
        (b"{}", headers(**{"ce-subject": "%ff"})),
        (b"{}", headers(**{"ce-time": "now"})),
    ],
)
def test_a_broken_binary_message_is_refused(body: bytes, given: dict[str, str]) -> None:
    with pytest.raises(InvalidEvent):
        decode(body, given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"content-type": "application/json"},
        {"content-type": "application/cloudevents-batch+json"},
        {"content-type": "application/cloudevents+xml"},
        headers(**{"content-type": "text/plain"}),
    ],
)
def test_a_content_type_that_is_no_mode_is_refused_as_such(given: dict[str, str]) -> None:
    with pytest.raises(UnsupportedContent):
        decode(envelope(), given)


def test_a_message_over_the_limit_is_not_even_parsed() -> None:
    with pytest.raises(InvalidEvent, match="101 bytes"):
        decode(b"{" * 101, limit=100)


def test_deep_nesting_is_refused_and_does_not_crash() -> None:
    with pytest.raises(InvalidEvent):
        decode(b'{"data":' * 3000 + b"1" + b"}" * 3000)


def test_routing_key_is_the_type() -> None:
    assert encoding.routing_key(FULL) == "lambda.build.started"


def test_a_type_that_amqp_cannot_carry_is_no_routing_key() -> None:
    with pytest.raises(InvalidEvent, match="255"):
        encoding.routing_key(replace(FULL, type="ü" * 128))
