"""GitHub: X-Hub-Signature-256 over the body; its SHA-1 sibling is not enough."""

from __future__ import annotations

from knative_lambda.receivers import payload as reading
from knative_lambda.receivers import signatures
from knative_lambda.receivers.base import (
    BRANCH,
    Change,
    Delivery,
    Headers,
    Ignored,
    Look,
    News,
    Payload,
    Ping,
    Push,
    Verdict,
)

COMMITS = 2048
"""GitHub lists no more of a push (docs.github.com, webhook events and payloads)."""
FILES = 1000
"""A commit that lists so many files may have more of them."""
_SHA256 = frozenset({"sha256"})


class GitHub:
    """GitHub and GitHub Enterprise."""

    name = "github"

    def matches(self, headers: Headers) -> bool:
        return "x-github-event" in headers

    def delivery_id(self, headers: Headers) -> str:
        return headers.get("x-github-delivery", "")

    def verify(self, delivery: Delivery, token: bytes) -> Verdict:
        signature = delivery.headers.get("x-hub-signature-256")
        if signature is None:
            return Verdict.WEAK if "x-hub-signature" in delivery.headers else Verdict.UNSIGNED
        return signatures.judge_prefixed(signature, token, delivery.body, allowed=_SHA256)

    def read(self, headers: Headers, payload: Payload) -> News:
        event = headers.get("x-github-event", "")
        if event == "ping":
            return Ping()
        return push(payload) if event == "push" else Ignored("this event does not move a branch or tag")


def push(payload: Payload) -> News:
    """A push in GitHub's words; Gitea and Forgejo use them too."""
    ref, before, after = (reading.text(payload, name) for name in ("ref", "before", "after"))
    if not ref:
        return Look()
    default = reading.text(payload, "repository", "default_branch")
    change = Change(
        ref=ref,
        before=before,
        after=after,
        deleted=payload.get("deleted") is True or reading.is_nothing(after),
        is_default=ref == BRANCH + default if default else None,
        files=_files(payload),
    )
    return Push((change,))


def _files(payload: Payload) -> frozenset[str] | None:
    """Only of a push that GitHub calls neither new nor forced: what a forced push took away is listed nowhere."""
    commits = reading.rows(payload, "commits")
    if payload.get("forced") is not False or payload.get("created") is not False:
        return None
    if not commits or len(commits) >= COMMITS:
        return None
    found: set[str] = set()
    for commit in commits:
        files = [name for part in ("added", "modified", "removed") for name in reading.at(commit, part) or ()]
        if not files or len(files) >= FILES:
            return None
        found.update(str(name) for name in files)
    return frozenset(found)
