"""JSON from outside: its depth is limited before it is parsed. Called by reception with a verified body."""

from __future__ import annotations

import re

import orjson

from knative_lambda.receivers.base import Payload

DEPTH = 32
"""Forges nest six deep."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class Malformed(ValueError):
    """Not a JSON object, or one that nests too deep; the message is for the sender."""


def parse(body: bytes) -> Payload:
    """The JSON object; raises Malformed."""
    check_depth(body)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed("the body is not JSON") from error
    if not isinstance(found, dict):
        raise Malformed("the body is not a JSON object")
    return found


def check_depth(body: bytes) -> None:
    """Raises Malformed at the first bracket that opens too deep; linear in the body, and usually far shorter."""
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", body)):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > DEPTH:
            raise Malformed(f"the body nests deeper than {DEPTH}")
