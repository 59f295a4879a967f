"""Stable identities: the same parts give the same digest in every process and release."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: one text for one value."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def digest(*parts: Any) -> str:
    """64 hex characters over JSON-like parts; their borders count, so ("ab","c") differs from ("a","bc")."""
    return hashlib.sha256(canonical(parts)).hexdigest()


def short(*parts: Any, length: int = 10) -> str:
    """A digest cut for names; 10 hex characters are 40 bits."""
    return digest(*parts)[:length]
