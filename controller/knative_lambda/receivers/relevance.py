"""Whether news can change what a repository's functions are. Pure; called by reception.

It answers no only where that is certain: a look too many costs one question to the remote, a look too few a push.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from knative_lambda.gitsync.observed import WebhookSeen
from knative_lambda.receivers.base import BRANCH, TAG, Change, Ignored, Look, Push

Watched = Callable[[], Iterable[str]]
"""Paths outside their own directories that the repository's functions are built from."""


def why_not(news: Push | Look | Ignored, hook: WebhookSeen, watched: Watched) -> str:
    """Empty when it matters; else why it does not, for the sender."""
    if isinstance(news, Ignored):
        return news.why
    return _why_not_pushed(news, hook, watched) if isinstance(news, Push) else ""


def _why_not_pushed(push: Push, hook: WebhookSeen, watched: Watched) -> str:
    moved = [change for change in push.changes if follows(change, hook)]
    if not moved:
        return "this repository follows another branch or tag"
    moved = [change for change in moved if not change.deleted]
    if not moved:
        return "the branch or tag was deleted"
    if all(_is_elsewhere(change, hook, watched) for change in moved):
        return "nothing below spec.path changed"
    return ""


def follows(change: Change, hook: WebhookSeen) -> bool:
    """Whether this is the ref that the repository follows; a pinned commit may come with any."""
    if hook.branch:
        return change.ref == BRANCH + hook.branch.removeprefix(BRANCH)
    if hook.tag:
        return change.ref == TAG + hook.tag.removeprefix(TAG)
    if hook.commit:
        return True
    return change.ref.startswith(BRANCH) and change.is_default is not False


def _is_elsewhere(change: Change, hook: WebhookSeen, watched: Watched) -> bool:
    """The push starts where the last sync ended well, and touches nothing that a function is made of."""
    if change.files is None or not hook.directory or not hook.settled or change.before != hook.settled:
        return False
    roots = (hook.directory, *watched())
    return not any(_overlaps(path, root) for path in change.files for root in roots)


def _overlaps(path: str, root: str) -> bool:
    """A file where the root's parent directory was, or a link to it, moves the root too."""
    return path == root or path.startswith(f"{root}/") or root.startswith(f"{path}/")
