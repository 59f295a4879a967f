"""Repositories that somebody asked to look at now. Level, not edge: a mark says "look", never what happened."""

from __future__ import annotations

from collections.abc import Callable

from knative_lambda.api.meta import Key


class SyncRequests:
    """Marked by webhooks, the API and handlers; taken by loop. For the event loop's thread."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        """`wake` puts a key into the work queue."""
        self._wake = wake
        self._marked: set[Key] = set()

    def mark(self, key: Key) -> None:
        """Asks for a look at the remote, soon. Many marks before that look are one."""
        self._marked.add(key)
        self._wake(key)

    def is_marked(self, key: Key) -> bool:
        return key in self._marked

    def take(self, key: Key) -> bool:
        """Whether somebody asked since the last take."""
        marked = key in self._marked
        self._marked.discard(key)
        return marked
