"""Gitea and Forgejo: a bare hex signature in a header of their own, and GitHub's headers beside it."""

from __future__ import annotations

from knative_lambda.receivers import github, signatures
from knative_lambda.receivers.base import Delivery, Headers, Ignored, News, Payload, Verdict

_NAMES = ("forgejo", "gitea")
_SHA256 = frozenset({"sha256"})


class Gitea:
    """Gitea and Forgejo. Asked before GitHub, whose event header they send too."""

    name = "gitea"

    def matches(self, headers: Headers) -> bool:
        return bool(_first(headers, "event"))

    def delivery_id(self, headers: Headers) -> str:
        return _first(headers, "delivery")

    def verify(self, delivery: Delivery, token: bytes) -> Verdict:
        signature = _first(delivery.headers, "signature")
        if signature:
            return signatures.judge_hex(signature, token, delivery.body)
        alias = delivery.headers.get("x-hub-signature-256")
        if alias is None:
            return Verdict.WEAK if "x-hub-signature" in delivery.headers else Verdict.UNSIGNED
        return signatures.judge_prefixed(alias, token, delivery.body, allowed=_SHA256)

    def read(self, headers: Headers, payload: Payload) -> News:
        """Their test button sends a push of nothing, which is one look too many and no harm."""
        if _first(headers, "event") == "push":
            return github.push(payload)
        return Ignored("this event does not move a branch or tag")


def _first(headers: Headers, what: str) -> str:
    return next((headers[f"x-{name}-{what}"] for name in _NAMES if headers.get(f"x-{name}-{what}")), "")
