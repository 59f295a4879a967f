"""Topic patterns as RabbitMQ's topic exchanges match them. Called by memory; the contract suite compares them."""

from __future__ import annotations


def matches(pattern: str, key: str) -> bool:
    """Whether a binding `pattern` takes a routing `key`; `*` is exactly one word, `#` any number, words end at dots."""
    words = key.split(".") if key else []
    reached = {0}  # how many words of the key the pattern so far may have taken
    for part in pattern.split(".") if pattern else []:
        if part == "#":
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {taken + 1 for taken in reached if taken < len(words) and part in ("*", words[taken])}
        if not reached:
            return False
    return len(words) in reached
