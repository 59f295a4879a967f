"""Which repositories a change in the cluster asks to look at. Pure; wiring connects them to informers and the queue."""

from __future__ import annotations

from collections.abc import Iterable

from knative_lambda.api.meta import Key
from knative_lambda.gitsync.observed import RepositorySeen
from knative_lambda.resources.observed import FunctionSeen


def repository_changed(old: RepositorySeen | None, new: RepositorySeen | None) -> Iterable[Key]:
    """Itself, when a person asked for something; our own status writes ask for nothing."""
    if old is not None and new is not None and old.asks == new.asks:
        return ()
    return tuple({one.key for one in (old, new) if one is not None})


def function_changed(old: FunctionSeen | None, new: FunctionSeen | None) -> Iterable[Key]:
    """The repositories that own, or owned, the function, when what git wrote may have changed: never for its status.

    A hand edit of labels or annotations alone has no generation to be told by; the next poll sets it back.
    """
    if old is not None and new is not None and _as_git_sees(old) == _as_git_sees(new):
        return ()
    owners = [fn.repository for fn in (old, new) if fn is not None and fn.repository is not None]
    return tuple(dict.fromkeys(owners))


def _as_git_sees(fn: FunctionSeen) -> tuple[object, ...]:
    return fn.uid, fn.generation, fn.deleting, fn.repository
