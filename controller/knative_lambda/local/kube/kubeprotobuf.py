"""The binary form in which `kubectl create secret|configmap|namespace` sends objects. Called by kubebodies; pure.

Every other command sends JSON. A field that is not known here and holds something is refused, never dropped. The
numbers of the fields are those of Kubernetes' generated.proto files, which never change.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from knative_lambda.cluster.base import Object

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _BYTES = 0, 2
_VARINT_BYTES = 10

Value = int | bytes
Put = Callable[[Object, str, Value], None]


class Unreadable(ValueError):
    """Not the binary form of something that is read here; the message is for the sender."""


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    put: Put
    """Puts a value of that field into an object under its name."""


Form = Mapping[int, Field]


def decoded(data: bytes) -> Object:
    """The object as its JSON would be. Raises Unreadable."""
    if not data.startswith(_MAGIC):
        raise Unreadable("the body is not an object in the binary form of Kubernetes")
    unknown = _message(data[len(_MAGIC) :], _UNKNOWN)
    identity: dict[str, str] = unknown.get("typeMeta", {})
    form = _FORMS.get((identity.get("apiVersion", ""), identity.get("kind", "")))
    if form is None or "contentEncoding" in unknown:
        raise Unreadable("only Secrets, ConfigMaps and Namespaces are read in binary form; send a manifest by apply")
    return {**identity, **_message(unknown.get("raw", b""), form)}


def _message(data: bytes, form: Form) -> Object:
    found: Object = {}
    for number, value in _fields(data):
        field = form.get(number)
        if field is not None:
            field.put(found, field.name, value)
        elif value:
            raise Unreadable(f"field {number} of the binary form is not read here; send a manifest by apply")
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == _VARINT:
            yield tag >> 3, value
        elif tag & 7 == _BYTES and at + value <= len(data):
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            raise Unreadable("the binary form is broken")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where the next thing begins."""
    value = 0
    for position, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, at + position + 1
    raise Unreadable("the binary form is broken")


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise Unreadable("the binary form is broken")
    return value


def _text(value: Value) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError as error:
        raise Unreadable("a text in the binary form is not UTF-8") from error


def _base64(value: Value) -> str:
    return base64.b64encode(_bytes(value)).decode()


def _put_text(obj: Object, name: str, value: Value) -> None:
    if value:
        obj[name] = _text(value)


def _put_bytes(obj: Object, name: str, value: Value) -> None:
    if value:
        obj[name] = _bytes(value)


def _put_flag(obj: Object, name: str, value: Value) -> None:
    obj[name] = bool(value)


def _put_item(obj: Object, name: str, value: Value) -> None:
    obj.setdefault(name, []).append(_text(value))


def _pass_over(_obj: Object, _name: str, _value: Value) -> None:
    """What only the server writes."""


def _putting_message(form: Form) -> Put:
    def put(obj: Object, name: str, value: Value) -> None:
        obj[name] = _message(_bytes(value), form)

    return put


def _putting_entry(read: Callable[[Value], str]) -> Put:
    """A map is a message per entry: key and value."""

    def put(obj: Object, name: str, value: Value) -> None:
        entry: dict[int, Any] = dict(_fields(_bytes(value)))
        obj.setdefault(name, {})[_text(entry.get(1, b""))] = read(entry.get(2, b""))

    return put


_UNKNOWN: Form = {
    1: Field("typeMeta", _putting_message({1: Field("apiVersion", _put_text), 2: Field("kind", _put_text)})),
    2: Field("raw", _put_bytes),
    3: Field("contentEncoding", _put_text),
    4: Field("contentType", _pass_over),
}
_METADATA = Field(
    "metadata",
    _putting_message(
        {
            1: Field("name", _put_text),
            2: Field("generateName", _put_text),
            3: Field("namespace", _put_text),
            8: Field("creationTimestamp", _pass_over),
            11: Field("labels", _putting_entry(_text)),
            12: Field("annotations", _putting_entry(_text)),
            14: Field("finalizers", _put_item),
        }
    ),
)
_FORMS: Mapping[tuple[str, str], Form] = {
    ("v1", "Secret"): {
        1: _METADATA,
        2: Field("data", _putting_entry(_base64)),
        3: Field("type", _put_text),
        5: Field("immutable", _put_flag),
    },
    ("v1", "ConfigMap"): {
        1: _METADATA,
        2: Field("data", _putting_entry(_text)),
        3: Field("binaryData", _putting_entry(_base64)),
        4: Field("immutable", _put_flag),
    },
    ("v1", "Namespace"): {1: _METADATA, 3: Field("status", _pass_over)},
}
