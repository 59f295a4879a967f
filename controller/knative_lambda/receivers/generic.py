"""Anybody who can sign: X-Signature: sha256=<hex> (or sha512) over the body, as Flux's generic-hmac without SHA-1."""

from __future__ import annotations

from knative_lambda.receivers import github, signatures
from knative_lambda.receivers.base import Delivery, Headers, News, Payload, Verdict

_ALLOWED = frozenset(signatures.STRONG)


class Generic:
    """Scripts, CI and our own post-receive hook."""

    name = "generic"

    def matches(self, headers: Headers) -> bool:
        return "x-signature" in headers

    def delivery_id(self, headers: Headers) -> str:
        return headers.get("x-delivery-id", "")

    def verify(self, delivery: Delivery, token: bytes) -> Verdict:
        return signatures.judge_prefixed(delivery.headers["x-signature"], token, delivery.body, allowed=_ALLOWED)

    def read(self, headers: Headers, payload: Payload) -> News:  # noqa: ARG002 - the port's signature
        """A ref in GitHub's words narrows it down; anything else asks for a look."""
        return github.push(payload)
