"""Bitbucket Cloud: X-Hub-Signature, which is SHA-256 there, and several refs per push."""

from __future__ import annotations

from knative_lambda.receivers import payload as reading
from knative_lambda.receivers import signatures
from knative_lambda.receivers.base import (
    BRANCH,
    TAG,
    Change,
    Delivery,
    Headers,
    Ignored,
    Look,
    News,
    Payload,
    Push,
    Verdict,
)

_SHA256 = frozenset({"sha256"})
_PREFIXES = {"branch": BRANCH, "named_branch": BRANCH, "tag": TAG, "annotated_tag": TAG}


class BitbucketCloud:
    """bitbucket.org. Its request id tells it from the Data Center."""

    name = "bitbucket-cloud"

    def matches(self, headers: Headers) -> bool:
        return "x-event-key" in headers and ("x-request-uuid" in headers or "x-hook-uuid" in headers)

    def delivery_id(self, headers: Headers) -> str:
        return headers.get("x-request-uuid", "")

    def verify(self, delivery: Delivery, token: bytes) -> Verdict:
        return judge(delivery, token)

    def read(self, headers: Headers, payload: Payload) -> News:
        if headers.get("x-event-key") != "repo:push":
            return Ignored("this event does not move a branch or tag")
        changes = tuple(_change(row) for row in reading.rows(payload, "push", "changes"))
        return Push(changes) if changes and all(one.ref for one in changes) else Look()


def judge(delivery: Delivery, token: bytes) -> Verdict:
    """Both Bitbuckets sign alike."""
    signature = delivery.headers.get("x-hub-signature")
    if signature is None:
        return Verdict.UNSIGNED
    return signatures.judge_prefixed(signature, token, delivery.body, allowed=_SHA256)


def _change(row: Payload) -> Change:
    gone = row.get("new") is None
    side = row.get("old") if gone else row.get("new")
    name = reading.text(side, "name")
    prefix = _PREFIXES.get(reading.text(side, "type"), "")
    return Change(
        ref=f"{prefix}{name}" if prefix and name else "",
        before=reading.text(row, "old", "target", "hash"),
        after=reading.text(row, "new", "target", "hash"),
        deleted=gone,
    )
