"""Whether an object still says what we applied. Pure; called by diff."""

from __future__ import annotations

from typing import Any

Path = tuple[str, ...]
_KEYED: dict[Path, str] = {("spec", "env"): "name"}
"""Lists that the API server merges by a key: an item that somebody else added is theirs, and stays."""
_SETS = frozenset({("metadata", "finalizers")})
_PARTS = ("metadata", "spec")


def owned_fields_match(desired: dict[str, Any], observed: dict[str, Any]) -> bool:
    """Every field of the desired manifest has its value; what defaults, or somebody else, added does not count."""
    return all(_covers(desired.get(part, {}), observed.get(part, {}), (part,)) for part in _PARTS)


def _covers(desired: Any, observed: Any, path: Path) -> bool:
    if isinstance(desired, dict):
        return isinstance(observed, dict) and all(
            name in observed and _covers(value, observed[name], (*path, name)) for name, value in desired.items()
        )
    if isinstance(desired, list):
        return isinstance(observed, list) and _covers_list(desired, observed, path)
    return type(desired) is type(observed) and bool(desired == observed)


def _covers_list(desired: list[Any], observed: list[Any], path: Path) -> bool:
    if path in _SETS:
        return set(desired) <= set(observed)
    if key := _KEYED.get(path):
        by_key = {item.get(key): item for item in observed}
        return all(_covers(item, by_key.get(item[key]), path) for item in desired)
    return len(desired) == len(observed) and all(
        _covers(one, other, path) for one, other in zip(desired, observed, strict=True)
    )
