"""JSON from outside: an object that is not nested deeper than any forge nests. Called by reception once verified."""

from __future__ import annotations

from typing import Any

import orjson

from knative_lambda.receivers.base import Payload

DEPTH = 32
"""Forges nest six deep. orjson itself refuses more than 1024, so that no input can overflow its stack."""


class Malformed(ValueError):
    """Not a JSON object, or one that nests too deep; the message is for the sender."""


def parse(body: bytes) -> Payload:
    """The JSON object; raises Malformed."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed("the body is not JSON, or nests very deep") from error
    if not isinstance(found, dict):
        raise Malformed("the body is not a JSON object")
    if _is_deeper(found, DEPTH):
        raise Malformed(f"the body nests deeper than {DEPTH}")
    return found


def _is_deeper(found: Payload, limit: int) -> bool:
    """Level by level: linear in the values, and no recursion."""
    level: list[Any] = [found]
    for _ in range(limit):
        children = (child for one in level for child in (one.values() if isinstance(one, dict) else one))
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True
