"""GitLab: a token in a header or, newer, a signature as Standard Webhooks describe it (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from knative_lambda.receivers import payload as reading
from knative_lambda.receivers import signatures
from knative_lambda.receivers.base import BRANCH, Change, Delivery, Headers, Ignored, Look, News, Payload, Push, Verdict

TOLERANCE = 300.0
"""Seconds that a signed time may be away from ours."""
SIGNATURES = 8
"""A header may carry several, for a secret that is being rotated; more are not looked at."""
_KEY_PREFIX = b"whsec_"
_PUSHES = frozenset({"Push Hook", "Tag Push Hook"})


class GitLab:
    """gitlab.com and self-managed. A secret of the form whsec_… accepts signatures and no plain token."""

    name = "gitlab"

    def matches(self, headers: Headers) -> bool:
        return "x-gitlab-event" in headers

    def delivery_id(self, headers: Headers) -> str:
        return headers.get("webhook-id") or headers.get("idempotency-key") or headers.get("x-gitlab-webhook-uuid", "")

    def verify(self, delivery: Delivery, token: bytes) -> Verdict:
        if token.startswith(_KEY_PREFIX) or "webhook-signature" in delivery.headers:
            return _judge_signature(delivery, token)
        given = delivery.headers.get("x-gitlab-token")
        return Verdict.UNSIGNED if given is None else signatures.same(token, given.encode("utf-8", "replace"))

    def read(self, headers: Headers, payload: Payload) -> News:
        if headers.get("x-gitlab-event") not in _PUSHES:
            return Ignored("this event does not move a branch or tag")
        ref, after = reading.text(payload, "ref"), reading.text(payload, "after")
        if not ref:
            return Look()
        default = reading.text(payload, "project", "default_branch")
        change = Change(
            ref=ref,
            before=reading.text(payload, "before"),
            after=after,
            deleted=reading.is_nothing(after),
            is_default=ref == BRANCH + default if default else None,
        )
        return Push((change,))


def _judge_signature(delivery: Delivery, token: bytes) -> Verdict:
    """`v1,<base64 of HMAC-SHA256 over id.timestamp.body>`, one of several."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    identity, stamp, given = (delivery.headers.get(name, "") for name in names)
    if not (identity and stamp and given):
        return Verdict.UNSIGNED
    signed = b".".join((identity.encode(), stamp.encode(), delivery.body))
    expected = b"v1," + base64.b64encode(hmac.new(_key(token), signed, hashlib.sha256).digest())
    fits = [hmac.compare_digest(expected, one.encode("utf-8", "replace")) for one in given.split()[:SIGNATURES]]
    if not any(fits):
        return Verdict.WRONG
    return Verdict.GOOD if _is_now(stamp, delivery) else Verdict.STALE


def _key(token: bytes) -> bytes:
    if not token.startswith(_KEY_PREFIX):
        return token
    try:
        return base64.b64decode(token.removeprefix(_KEY_PREFIX), validate=True)
    except binascii.Error:
        return token


def _is_now(stamp: str, delivery: Delivery) -> bool:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        return False
    return abs(delivery.at.timestamp() - int(stamp)) <= TOLERANCE
