"""Kubernetes quantities as numbers, to compare them."""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"^(?P<number>[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(?P<suffix>[KMGTPE]i|[numkMGTPE])?$")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def parse(text: str) -> Decimal:
    """`64Mi` as 67108864, `50m` as 0.05; raises ValueError on what is no quantity."""
    found = _FORM.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity; write a number with a unit, such as 64Mi or 250m")
    number, suffix = Decimal(found["number"]), found["suffix"]
    if suffix in _BINARY:
        return number * Decimal(1024) ** _BINARY[suffix]
    return number.scaleb(_DECIMAL[suffix]) if suffix else number
