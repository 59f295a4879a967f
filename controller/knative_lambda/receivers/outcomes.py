"""What can become of a delivery: the answer, the label of the metric, and what people are told. Used by reception.

Everything that an unsigned caller could learn something from is one and the same 404.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from knative_lambda.receivers import forges
from knative_lambda.receivers.base import Verdict


class Outcome(StrEnum):
    """One label value per class of delivery."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    DUPLICATE = "duplicate"
    PING = "ping"

    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_SENDER = "unknown_sender"
    NO_SECRET = "no_secret"  # noqa: S105 - a label, no secret
    UNSIGNED = "unsigned"
    WEAK_SIGNATURE = "weak_signature"
    WRONG_SIGNATURE = "wrong_signature"
    STALE = "stale"
    SUSPENDED = "suspended"

    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    CUT_OFF = "cut_off"
    BUSY = "busy"
    MALFORMED = "malformed"


STATUS = {
    Outcome.ACCEPTED: 202,
    Outcome.IGNORED: 202,
    Outcome.DUPLICATE: 202,
    Outcome.PING: 202,
    Outcome.UNKNOWN_PATH: 404,
    Outcome.UNKNOWN_SENDER: 404,
    Outcome.NO_SECRET: 404,
    Outcome.UNSIGNED: 404,
    Outcome.WEAK_SIGNATURE: 404,
    Outcome.WRONG_SIGNATURE: 404,
    Outcome.STALE: 404,
    Outcome.SUSPENDED: 404,
    Outcome.NOT_JSON: 415,
    Outcome.TOO_LARGE: 413,
    Outcome.TOO_SLOW: 408,
    Outcome.CUT_OFF: 400,
    Outcome.BUSY: 503,
    Outcome.MALFORMED: 400,
}
"""HTTP status."""

ADVICE = {
    Outcome.UNKNOWN_SENDER: "a delivery had the headers of no forge that is known; sign it with X-Signature",
    Outcome.NO_SECRET: "no delivery can be verified: spec.webhook.secretRef names no readable Secret with a key token",
    Outcome.UNSIGNED: "a delivery was not signed; set the webhook's secret at the forge",
    Outcome.WEAK_SIGNATURE: "a delivery was signed with SHA-1 only; use a forge or version that signs with SHA-256",
    Outcome.WRONG_SIGNATURE: "the signature of a delivery was wrong; forge and Secret must hold the same token",
    Outcome.STALE: "a delivery was signed for another time; somebody repeats old ones, or a clock is wrong",
    Outcome.SUSPENDED: "a delivery was refused because spec.suspend is true",
    Outcome.NOT_JSON: "a delivery was not JSON; choose the content type application/json at the forge",
    Outcome.TOO_LARGE: "a delivery was larger than the controller takes; its setting is webhook_body_limit",
    Outcome.TOO_SLOW: "a delivery did not arrive in time",
    Outcome.MALFORMED: "a signed delivery was no JSON object, or one that nests too deep",
}
"""Note of the Kubernetes Event; constant, so that a flood of deliveries is one Event that counts up."""

VERDICTS = {
    Verdict.UNSIGNED: Outcome.UNSIGNED,
    Verdict.WEAK: Outcome.WEAK_SIGNATURE,
    Verdict.WRONG: Outcome.WRONG_SIGNATURE,
    Verdict.STALE: Outcome.STALE,
}


class Refused(Exception):
    """A delivery that ends here."""

    def __init__(self, outcome: Outcome, message: str = "") -> None:
        super().__init__(message or outcome.value)
        self.outcome = outcome
        self.message = message


class Counts:
    """Deliveries by forge and outcome: at most seven times eighteen series. Read by whoever renders metrics."""

    def __init__(self) -> None:
        self.deliveries: Counter[tuple[str, str]] = Counter()

    def add(self, forge: str | None, outcome: Outcome) -> None:
        self.deliveries[forge or forges.UNKNOWN, outcome.value] += 1
