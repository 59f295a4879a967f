"""HMAC over raw bytes, compared in constant time. Used by every forge."""

from __future__ import annotations

import hashlib
import hmac

from knative_lambda.receivers.base import Verdict

STRONG = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
WEAK = frozenset({"sha1", "md5"})
"""Refused everywhere: whoever took a forge's legacy SHA-1 header to a weaker door would be let in by it."""


def judge_hex(signature: str, token: bytes, body: bytes, *, algorithm: str = "sha256") -> Verdict:
    """`signature` is bare hex."""
    expected = hmac.new(token, body, STRONG[algorithm]).hexdigest()
    return _compared(expected, signature.strip().lower())


def judge_prefixed(signature: str, token: bytes, body: bytes, *, allowed: frozenset[str]) -> Verdict:
    """`signature` is `<algorithm>=<hex>`; another algorithm than the allowed ones is wrong, or weak."""
    algorithm, _, value = signature.strip().partition("=")
    algorithm = algorithm.lower()
    if algorithm in WEAK:
        return Verdict.WEAK
    if algorithm not in allowed:
        judge_hex(value, token, body)
        return Verdict.WRONG
    return judge_hex(value, token, body, algorithm=algorithm)


def same(expected: bytes, given: bytes) -> Verdict:
    """Compares secrets of any length: by their digests, so that not even the length shows."""
    mine, theirs = hashlib.sha256(expected).digest(), hashlib.sha256(given).digest()
    return Verdict.GOOD if hmac.compare_digest(mine, theirs) else Verdict.WRONG


def _compared(expected: str, given: str) -> Verdict:
    equal = hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))
    return Verdict.GOOD if equal else Verdict.WRONG
