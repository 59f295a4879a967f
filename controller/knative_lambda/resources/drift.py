"""Whether an observed child still holds everything that we want of it.

Servers and webhooks add fields and rewrite quantities; neither is drift. Called by reconcile.steps and reconcile.act.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from knative_lambda.kit import digest

_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY_PARENTS = frozenset({"requests", "limits"})
_QUANTITY_KEYS = frozenset({"sizeLimit"})


def content(manifest: dict[str, Any]) -> dict[str, Any]:
    """The part of an object that we may own: labels, annotations, spec."""
    metadata = manifest.get("metadata")
    inside = metadata if isinstance(metadata, dict) else {}
    return {
        "labels": inside.get("labels") or {},
        "annotations": inside.get("annotations") or {},
        "spec": manifest.get("spec") or {},
    }


def packed(manifest: dict[str, Any]) -> bytes:
    """`content` as canonical JSON, as caches keep it."""
    return digest.canonical(content(manifest))


def covers(desired: Any, observed: Any) -> bool:
    """Whether everything in `desired` is in `observed`: dicts by key, lists element by element, quantities by value."""
    return _covers(desired, observed, quantity=False)


def _covers(desired: Any, observed: Any, *, quantity: bool) -> bool:
    if isinstance(desired, dict):
        return isinstance(observed, dict) and all(
            key in observed and _covers(value, observed[key], quantity=key in _QUANTITY_KEYS)
            if key not in _QUANTITY_PARENTS
            else _same_quantities(value, observed.get(key))
            for key, value in desired.items()
        )
    if isinstance(desired, list | tuple):
        return _covers_list(desired, observed)
    if quantity:
        return same_quantity(desired, observed)
    return bool(desired == observed and isinstance(desired, bool) == isinstance(observed, bool))


def _covers_list(desired: list[Any] | tuple[Any, ...], observed: Any) -> bool:
    if not isinstance(observed, list | tuple) or len(desired) != len(observed):
        return False
    return all(_covers(one, other, quantity=False) for one, other in zip(desired, observed, strict=True))


def _same_quantities(desired: Any, observed: Any) -> bool:
    """`requests` and `limits`: what we ask for must be there; further resources are the server's."""
    if not isinstance(desired, dict) or not isinstance(observed, dict):
        return bool(desired == observed)
    return all(key in observed and same_quantity(value, observed[key]) for key, value in desired.items())


def same_quantity(one: Any, other: Any) -> bool:
    """`1000m` is `1`, `1024Mi` is `1Gi`; what is no quantity is compared as it stands."""
    left, right = _quantity(one), _quantity(other)
    return bool(one == other) if left is None or right is None else left == right


def _quantity(value: Any) -> Decimal | None:
    """The number that a Kubernetes quantity means; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    number = text.rstrip("KMGTPEinumk") if not text[-1:].isdigit() else text
    factor = _SUFFIXES.get(text[len(number) :])
    try:
        return None if factor is None or not number else Decimal(number) * factor
    except InvalidOperation:
        return None
