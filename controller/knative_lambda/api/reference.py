"""The pages of docs/api, made from the types."""

from __future__ import annotations


def pages() -> dict[str, str]:
    """Name -> Markdown."""
    return {}
