"""Remembers what a server made of our manifests, so that its normalisation is never taken for drift twice.

In memory only: after a restart one apply per such child settles it again. Filled by `act`, read by reconcile.steps.
"""

from __future__ import annotations

import orjson

from knative_lambda.kit import digest
from knative_lambda.resources import child, drift
from knative_lambda.resources.child import Manifest
from knative_lambda.resources.observed import ServiceSeen, TriggerSeen

Applied = ServiceSeen | TriggerSeen


class Settled:
    """Children whose content differs from what we want although, and because, we applied it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, str]] = {}

    def remember(self, seen: Applied, wanted: Manifest) -> None:
        """Called with the server's answer to an apply."""
        if covered(seen, wanted):
            self._known.pop(seen.uid, None)
        else:
            self._known[seen.uid] = (child.applied_hash(wanted), _content_hash(seen))

    def holds(self, seen: Applied, wanted: Manifest) -> bool:
        """Whether exactly this content is what the server made of exactly that manifest."""
        return self._known.get(seen.uid) == (child.applied_hash(wanted), _content_hash(seen))

    def forget(self, uid: str) -> None:
        """The child is gone."""
        self._known.pop(uid, None)


def covered(seen: Applied, wanted: Manifest) -> bool:
    """Whether the child holds every field of the manifest."""
    return drift.covers(drift.content(wanted), orjson.loads(seen.content))


def is_as_wanted(seen: Applied, wanted: Manifest, settled: Settled) -> bool:
    """Whether there is nothing to apply."""
    if seen.applied_hash != child.applied_hash(wanted):
        return False
    return covered(seen, wanted) or settled.holds(seen, wanted)


def _content_hash(seen: Applied) -> str:
    return digest.digest(seen.content.decode())
