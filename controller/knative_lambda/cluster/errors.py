"""From an answer of the API server to one of base's errors. Called by transport and kube."""

from __future__ import annotations

import math
from typing import Any

import orjson

from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KindNotInstalled,
    NotFound,
    Timeout,
    TooManyRequests,
    Unavailable,
)
from knative_lambda.kit import redact

MESSAGE_LIMIT = 2048
"""Characters of a server's message that are kept: an Invalid error repeats the offending value in full."""

Status = dict[str, Any]


class Unauthorized(Forbidden):
    """401: the credentials are missing, wrong or expired; the server did nothing."""

    rejected = ""
    """The Authorization header that was refused; never shown."""


_BY_REASON: dict[str, type[ClusterError]] = {"AlreadyExists": AlreadyExists, "Expired": Gone}
_BY_STATUS: dict[int, type[ClusterError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: Timeout,
    409: Conflict,
    410: Gone,
    429: TooManyRequests,
    504: Timeout,
}


_ABOUT_THE_OBJECT = (
    "failed to create typed patch object",
    "resourceVersion should not be set on objects to be created",
)
"""500 answers of an API server that are about the object sent, and would be the same for ever."""


def from_answer(status: int, body: bytes, *, what: str, retry_after: float | None = None) -> ClusterError:
    """The error of a whole HTTP answer; `what` names the request, as `patch lambdafunctions.lambda.knative.io a/b`."""
    answer = status_object(body)
    return from_status(answer, code=status, what=what, retry_after=retry_after)


def from_status(answer: Status, *, code: int, what: str, retry_after: float | None = None) -> ClusterError:
    """The error of a metav1.Status, whose own retryAfterSeconds counts when no header said more."""
    details = answer.get("details") or {}
    if retry_after is None and details.get("retryAfterSeconds"):
        retry_after = float(details["retryAfterSeconds"])
    message = str(answer.get("message") or f"HTTP {code}")
    said = redact.text(message)[:MESSAGE_LIMIT]
    return _class(code, reason=str(answer.get("reason", "")), message=message, details=details)(
        f"{what}: {said}", retry_after=retry_after
    )


def status_object(body: bytes) -> Status:
    """The body as metav1.Status, or an empty dict: proxies and unknown paths answer in plain text."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}


def retry_after_seconds(header: str | None) -> float | None:
    """Retry-After as seconds; the form with a date is not used by API servers and passed over."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def kind_not_installed(kind: Kind, *, what: str) -> KindNotInstalled:
    return KindNotInstalled(f"{what}: the API server does not know {kind}; is its CRD installed?")


def missing(kind: Kind, key: Key, *, what: str) -> NotFound:
    return NotFound(f'{what}: {kind.plural} "{key.name}" not found')


def _class(code: int, *, reason: str, message: str, details: dict[str, Any]) -> type[ClusterError]:
    special = _BY_REASON.get(reason) or _special(code, message, details)
    if special is not None:
        return special
    if code in _BY_STATUS:
        return _BY_STATUS[code]
    if code >= 500:
        return Unavailable
    return Invalid if code >= 400 else ClusterError


def _special(code: int, message: str, details: dict[str, Any]) -> type[ClusterError] | None:
    """Answers whose status says less than they mean."""
    if code == 404 and not details.get("name"):
        return KindNotInstalled  # without the name of what is missing, the whole path is unknown
    if code == 422 and any(cause.get("field") == "metadata.uid" for cause in details.get("causes") or ()):
        return Conflict  # custom resources say so when another object has the name; others answer 409
    return Invalid if code == 500 and message.startswith(_ABOUT_THE_OBJECT) else None
