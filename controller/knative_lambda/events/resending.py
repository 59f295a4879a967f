"""A parked letter as the HTTP message that goes out again. Called by cli.target.

Left out are what our sink noted on the letter and what Knative said of the failure: a function must not see that its
event was ever dead, and an old failure must not be taken for a new one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from knative_lambda.events import encoding
from knative_lambda.events.mailbox import Parked

FAILURE = "knativeerror"
"""How the extensions begin in which Knative tells a dead-letter sink what failed: …dest, …code, …data."""
SIZE_LIMIT = 16 * 1024 * 1024
"""Bytes of one letter; RabbitMQ takes no more."""

_PREFIX = "ce-"
_STRUCTURED = "application/cloudevents"
_JSON_EVENT = re.compile(r"^application/cloudevents\+json\s*(;|$)", re.IGNORECASE)
_JSON_DATA = re.compile(r"^(application|text)/([a-z0-9.-]+\+)?json\s*(;|$)", re.IGNORECASE)


class Mode(StrEnum):
    """How an event is laid out in HTTP."""

    AS_IS = "as-is"
    """As it came."""
    BINARY = "binary"
    """Attributes in `ce-` headers, data in the body."""
    STRUCTURED = "structured"
    """All of it in a JSON body."""


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP request without its address; every header is printable ASCII."""

    body: bytes
    headers: Mapping[str, str]


def message(letter: Parked, mode: Mode = Mode.AS_IS) -> Message:
    """What is in that mode already goes out as it came; raises encoding.InvalidEvent for what cannot be turned."""
    structured = letter.content_type.lower().startswith(_STRUCTURED)
    headers = {name: _header(value) for name, value in letter.headers.items() if _is_sent(name)}
    body = _without_failure(letter.body) if _JSON_EVENT.match(letter.content_type) else letter.body
    if letter.content_type:
        headers["content-type"] = _header(letter.content_type)
    if mode is Mode.AS_IS or (mode is Mode.STRUCTURED) is structured:
        return Message(body, headers)
    event = encoding.unfold(body, headers, limit=SIZE_LIMIT)
    return _structured(event) if mode is Mode.STRUCTURED else Message(event.data, encoding.binary_headers(event))


def _is_sent(name: str) -> bool:
    return name.startswith(_PREFIX) and not name.startswith(_PREFIX + FAILURE)


def _without_failure(body: bytes) -> bytes:
    """The envelope without Knative's extensions; the very same bytes where there are none."""
    if f'"{FAILURE}'.encode() not in body:
        return body
    try:
        envelope = json.loads(body)  # unlike orjson it keeps integers of any size
    except ValueError:
        return body
    if not isinstance(envelope, dict):
        return body
    kept = {name: value for name, value in envelope.items() if not name.startswith(FAILURE)}
    return json.dumps(kept, separators=(",", ":")).encode()


def _structured(event: encoding.Message) -> Message:
    envelope: dict[str, Any] = dict(event.attributes)
    if event.content_type:
        envelope["datacontenttype"] = event.content_type
    envelope |= _data(event)
    return Message(orjson.dumps(envelope), {"content-type": encoding.CONTENT_TYPE})


def _data(event: encoding.Message) -> dict[str, Any]:
    """JSON as it is, anything else in base64."""
    if not event.data:
        return {}
    if _JSON_DATA.match(event.content_type) and _is_json(event.data):
        return {"data": orjson.Fragment(event.data)}
    return {"data_base64": base64.b64encode(event.data).decode()}


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _header(value: str) -> str:
    """Whatever is no printable ASCII percent-encoded, as the HTTP binding of CloudEvents asks for."""
    try:
        raw = value.encode("latin-1")  # as HTTP servers read headers, so these are the bytes that came
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "replace")
    return "".join(chr(one) if 0x20 <= one < 0x7F else f"%{one:02X}" for one in raw)
