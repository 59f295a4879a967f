"""CloudEvents 1.0 on the wire: JSON out, HTTP's structured and binary modes in.

Built on the `cloudevents` core event, which checks types and names; what it lets pass or invents (a missing id, a
binary reading of a structured message because some proxy added a `ce-` header) is refused here first.
Called by rabbitmq, memory and the receivers of events. `unfold` and `binary_headers` are a broker's: they hand an
event on without looking at its data.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import orjson
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from knative_lambda.api.events import Event

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
SPEC_VERSION = "1.0"
BODY_LIMIT = 1024 * 1024
"""Bytes of one message that are read, unless the caller says otherwise."""
ATTRIBUTE_LIMIT = 4096
"""Characters of one attribute."""
EXTENSIONS_LIMIT = 64
KEY_LIMIT = 255
"""Bytes of an AMQP routing key."""

_STRUCTURED = "application/cloudevents+json"
_ANY_STRUCTURED = "application/cloudevents"
_JSON = re.compile(r"^(application|text)/([a-z0-9.-]+\+)?json$")
_NAME = re.compile(r"^[a-z0-9]{1,64}$")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TIME = re.compile(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$")
_REQUIRED = ("specversion", "id", "source", "type")
_FIELDS = frozenset({*_REQUIRED, "subject", "time", "datacontenttype"})
_RESERVED = frozenset({*_FIELDS, "data", "data_base64"})
_PREFIX = "ce-"
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What a header of binary mode holds as it is; everything else is percent-encoded."""


class InvalidEvent(ValueError):
    """Not a CloudEvent that this project can take or send; the text says why and is safe to show."""


class UnsupportedContent(InvalidEvent):
    """A content type that no mode stands for; HTTP's 415."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event in the terms of binary mode, its data unread."""

    attributes: Mapping[str, str]
    """In CloudEvents' canonical string form; without datacontenttype, which is `content_type`."""
    content_type: str
    data: bytes
    numbers: frozenset[str] = frozenset()
    """Extensions that came as JSON numbers or booleans: to RabbitMQ they equal no string."""


def routing_key(event: Event) -> str:
    """The type, cut nowhere: a key that AMQP cannot carry is an InvalidEvent."""
    if len(event.type.encode()) > KEY_LIMIT:
        raise InvalidEvent(f"type is longer than the {KEY_LIMIT} bytes of a routing key: {event.type[:64]!r}…")
    return event.type


def encode(event: Event) -> bytes:
    """One event as structured JSON. Raises InvalidEvent; never for events that this project makes."""
    attributes: dict[str, Any] = {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time,
        "datacontenttype": "application/json",
    }
    if event.subject:
        attributes["subject"] = event.subject
    _add_extensions(attributes, event.extensions)
    _check(attributes)
    try:
        return orjson.dumps({**attributes, "data": event.data}, option=orjson.OPT_UTC_Z)
    except TypeError as error:
        raise InvalidEvent(f"data of {event.type} {event.id} is not JSON: {error}") from error


def decode(body: bytes, headers: Mapping[str, str], *, received: datetime, limit: int = BODY_LIMIT) -> Event:
    """An event from an HTTP or AMQP message; header names in any case.

    The mode follows from Content-Type alone. Data must be a JSON object, or absent. `received` is the time of an
    event that has none. A `dataschema` is kept among the extensions. Raises InvalidEvent and its subclasses.
    """
    lower, is_structured = _opened(body, headers, limit)
    attributes, data = _structured(body) if is_structured else _binary(body, lower)
    _check(attributes)
    return _event(attributes, data, received)


def unfold(body: bytes, headers: Mapping[str, str], *, limit: int = BODY_LIMIT) -> Message:
    """An event from an HTTP message whose data may be anything; header names in any case.

    Raises InvalidEvent and its subclasses, as `decode` does.
    """
    lower, is_structured = _opened(body, headers, limit)
    message = _unfolded(body) if is_structured else _as_it_is(body, lower)
    checked: dict[str, Any] = dict(message.attributes)
    _parse_time(checked)
    _check(checked)
    if not message.content_type.isascii():
        raise InvalidEvent("datacontenttype holds letters that no header can carry")
    _check_text("datacontenttype", message.content_type)
    return message


def binary_headers(message: Message) -> dict[str, str]:
    """The headers of binary mode, names in lower case, values percent-encoded as the HTTP binding asks for."""
    headers = {f"{_PREFIX}{name}": quote(value, safe=_PLAIN) for name, value in message.attributes.items()}
    return {**headers, "content-type": message.content_type} if message.content_type else headers


def _opened(body: bytes, headers: Mapping[str, str], limit: int) -> tuple[dict[str, str], bool]:
    """Headers by lower-case name, and whether the mode is structured."""
    if len(body) > limit:
        raise InvalidEvent(f"an event of {len(body)} bytes; at most {limit} are read")
    lower = {name.lower(): value for name, value in headers.items()}
    media_type = _media_type(lower.get("content-type", ""))
    if media_type != _STRUCTURED and media_type.startswith(_ANY_STRUCTURED):
        raise UnsupportedContent(f"{media_type} is not taken; send {_STRUCTURED}, one event at a time")
    return lower, media_type == _STRUCTURED


def _unfolded(body: bytes) -> Message:
    """Of a JSON envelope; the data becomes bytes again."""
    envelope, data, encoded = _envelope(body)
    content_type = _text("datacontenttype", envelope.pop("datacontenttype", None) or "application/json")
    if encoded is not None:
        content = _bytes_of(encoded)
    elif isinstance(data, str) and not _JSON.match(_media_type(content_type)):
        content = data.encode()
    else:
        content = b"" if data is None else orjson.dumps(data)
    attributes = {name: _text(name, value) for name, value in envelope.items() if value is not None}
    numbers = frozenset(name for name in attributes if not isinstance(envelope[name], str))
    has_data = data is not None or encoded is not None
    return Message(attributes, content_type if has_data else "", content, numbers)


def _as_it_is(body: bytes, headers: Mapping[str, str]) -> Message:
    """Of `ce-` headers."""
    return Message(_header_attributes(headers), headers.get("content-type", ""), body)


def _structured(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes and data of a JSON envelope."""
    envelope, data, encoded = _envelope(body)
    if encoded is not None:
        data = _from_bytes(_bytes_of(encoded), _media_type(str(envelope.get("datacontenttype", ""))))
    attributes = {name: _text(name, value) for name, value in envelope.items() if value is not None}
    _parse_time(attributes)
    return attributes, _object(data)


def _envelope(body: bytes) -> tuple[dict[str, Any], Any, Any]:
    """A JSON envelope's attributes as they stand, its `data` and its `data_base64`."""
    envelope = _json(body, "the event")
    if not isinstance(envelope, dict):
        raise InvalidEvent("the event must be a JSON object")
    data, encoded = envelope.pop("data", None), envelope.pop("data_base64", None)
    if data is not None and encoded is not None:
        raise InvalidEvent("data and data_base64 exclude each other")
    return envelope, data, encoded


def _binary(body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of `ce-` headers, data of the body."""
    attributes = _header_attributes(headers)
    media_type = _media_type(headers.get("content-type", ""))
    _parse_time(attributes)
    return attributes, _object(_from_bytes(body, media_type))


def _header_attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    attributes = {
        name.removeprefix(_PREFIX): _unquoted(name, value)
        for name, value in headers.items()
        if name.startswith(_PREFIX)
    }
    if not attributes:
        media_type = _media_type(headers.get("content-type", "")) or "missing"
        wanted = f"send {_STRUCTURED}, or ce- headers beside the data"
        raise UnsupportedContent(f"not a CloudEvent (content type {media_type}): {wanted}")
    if "datacontenttype" in attributes:
        raise InvalidEvent("ce-datacontenttype is not a header of binary mode; Content-Type says it")
    return attributes


def _event(attributes: dict[str, Any], data: dict[str, Any], received: datetime) -> Event:
    return Event(
        id=attributes["id"],
        type=attributes["type"],
        source=attributes["source"],
        time=attributes.get("time", received),
        data=data,
        subject=attributes.get("subject", ""),
        extensions={name: value for name, value in attributes.items() if name not in _FIELDS},
    )


def _check(attributes: dict[str, Any]) -> None:
    """What the specification asks of attributes; the `cloudevents` event checks the rest, on a copy, for it adds."""
    if missing := [name for name in _REQUIRED if not attributes.get(name)]:
        raise InvalidEvent(f"required and missing or empty: {', '.join(missing)}")
    if len(attributes) > EXTENSIONS_LIMIT + len(_FIELDS):
        raise InvalidEvent(f"more than {EXTENSIONS_LIMIT} extensions")
    for name, value in attributes.items():
        if not _NAME.match(name):
            raise InvalidEvent(f"{name[:64]!r} is not an attribute name: lower-case letters and digits only")
        if isinstance(value, str):
            _check_text(name, value)
    if re.search(r"\s", attributes["source"]):
        raise InvalidEvent("source must be a URI reference, without blanks")
    try:
        CloudEvent(dict(attributes))
    except CloudEventValidationError as error:
        raise InvalidEvent(_told(error)) from error


def _check_text(name: str, value: str) -> None:
    if len(value) > ATTRIBUTE_LIMIT:
        raise InvalidEvent(f"{name} is longer than {ATTRIBUTE_LIMIT} characters")
    if _FORBIDDEN.search(value):
        raise InvalidEvent(f"{name} holds control characters")


def _told(error: CloudEventValidationError) -> str:
    return "; ".join(str(each) for every in error.errors.values() for each in every)


def _add_extensions(attributes: dict[str, Any], extensions: Mapping[str, str]) -> None:
    for name, value in extensions.items():
        if name in _RESERVED:
            raise InvalidEvent(f"{name} is an attribute of its own, not an extension")
        attributes[name] = _text(name, value)


def _text(name: str, value: object) -> str:
    """An attribute in CloudEvents' canonical string form; JSON also knows booleans and integers."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise InvalidEvent(f"{name[:64]} must be a string, a boolean or an integer")
    return value


def _parse_time(attributes: dict[str, Any]) -> None:
    text = attributes.get("time")
    if text is None:
        return
    if not _TIME.match(text):
        raise InvalidEvent("time must be RFC 3339 with a zone, such as 2026-01-31T12:00:00Z")
    try:
        attributes["time"] = _moment(text)
    except (ValueError, OverflowError) as error:
        raise InvalidEvent(f"time is no moment: {error}") from error


def _moment(text: str) -> datetime:
    """Python keeps six digits of a second; the specification allows more."""
    upper = re.sub(r"(\.\d{6})\d+", r"\1", text.upper())
    return datetime.fromisoformat(upper).astimezone(UTC)


def _media_type(content_type: str) -> str:
    return content_type.split(";", 1)[0].strip().lower()


def _unquoted(name: str, value: str) -> str:
    try:
        return unquote(value.strip('"'), errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"header {name} is not percent-encoded UTF-8") from error


def _bytes_of(encoded: object) -> bytes:
    if not isinstance(encoded, str):
        raise InvalidEvent("data_base64 must be a string")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise InvalidEvent(f"data_base64 is not base64: {error}") from error


def _from_bytes(content: bytes, media_type: str) -> Any:
    if not content:
        return None
    if media_type and not _JSON.match(media_type):
        raise UnsupportedContent(f"data of type {media_type}; only JSON is taken")
    return _json(content, "data")


def _json(content: bytes, what: str) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidEvent(f"{what} is not JSON: {error}") from error


def _object(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidEvent("data must be a JSON object")
    return data
