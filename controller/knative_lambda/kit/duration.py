"""Durations as people write them in Kubernetes: `30s`, `5m`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache

PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
_PARTS = re.compile(PATTERN)
_UNITS = {"h": 3600, "m": 60, "s": 1}


@lru_cache(maxsize=1024)
def parse(text: str) -> timedelta:
    """`1h30m` as a timedelta; raises ValueError with the accepted form."""
    found = _PARTS.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text!r} is not a duration; write hours, minutes and seconds such as 30s, 5m or 1h30m")
    seconds = sum(int(part[:-1]) * _UNITS[part[-1]] for part in found.groups() if part)
    return timedelta(seconds=seconds)


def seconds(text: str) -> int:
    """`5m` as 300."""
    return int(parse(text).total_seconds())


def render(value: timedelta) -> str:
    """300 seconds as `5m`, 0 as `0s`."""
    rest = int(value.total_seconds())
    if rest == 0:
        return "0s"
    text = ""
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text
