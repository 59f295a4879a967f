"""Failures in the words of an API server: metav1.Status. Called by kubeapi for whatever a request raises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from knative_lambda.api.meta import Kind
from knative_lambda.cluster import base
from knative_lambda.cluster.base import ClusterError, Object

_CODES: tuple[tuple[type[ClusterError], int, str], ...] = (
    (base.AlreadyExists, 409, "AlreadyExists"),
    (base.Conflict, 409, "Conflict"),
    (base.KindNotInstalled, 404, "NotFound"),
    (base.NotFound, 404, "NotFound"),
    (base.Gone, 410, "Expired"),
    (base.Forbidden, 403, "Forbidden"),
    (base.TooManyRequests, 429, "TooManyRequests"),
    (base.Timeout, 504, "Timeout"),
    (base.Unavailable, 503, "ServiceUnavailable"),
)
"""The first that fits counts."""
_ABOUT_THE_OBJECT = " is invalid: "
"""What the memory cluster says of an object that it understood and refuses."""
_NEXT_FINDING = re.compile(r"; (?=[\w.\[\]()]+: )")


class Refusal(Exception):
    """A request that never reaches the cluster."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


def not_found() -> Refusal:
    """A path that leads nowhere. Without the name of an object: clients then know that the whole kind is unknown."""
    return Refusal(404, "NotFound", "the server could not find the requested resource")


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def status(code: int, *, reason: str, message: str, details: dict[str, Any] | None = None) -> Object:
    """A metav1.Status, which is a failure from 400 on."""
    found: Object = {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure" if code >= HTTPStatus.BAD_REQUEST else "Success",
        "message": message,
        "reason": reason,
        "details": details or {},
        "code": code,
    }
    return {name: value for name, value in found.items() if value or name == "metadata"}


def of_refusal(refusal: Refusal) -> Object:
    return status(refusal.code, reason=refusal.reason, message=refusal.message)


def of_error(error: ClusterError, kind: Kind, name: str) -> Object:
    """`name` is that of the object that the request was about, empty for a whole collection."""
    code, reason = _code(error)
    message = _said(error, kind)
    details: dict[str, Any] = {"group": kind.group, "kind": kind.plural}
    if not isinstance(error, base.KindNotInstalled):
        details["name"] = name or _named(message)
    if error.retry_after is not None:
        details["retryAfterSeconds"] = max(1, round(error.retry_after))
    if code == HTTPStatus.UNPROCESSABLE_ENTITY:
        details["causes"] = list(_causes(message))
    return status(code, reason=reason, message=message, details={key: value for key, value in details.items() if value})


def _code(error: ClusterError) -> tuple[int, str]:
    for class_, code, reason in _CODES:
        if isinstance(error, class_):
            return code, reason
    return (422, "Invalid") if _ABOUT_THE_OBJECT in error.message else (400, "BadRequest")


def _said(error: ClusterError, kind: Kind) -> str:
    """Without the `get ConfigMap a/b: ` that the cluster begins with: the client says it again."""
    return re.sub(rf"^[a-z_]+ {re.escape(str(kind))} \S+: ", "", error.message)


def _named(message: str) -> str:
    """A new object has no name in its path."""
    found = re.search(r'"([^"]+)" (?:is invalid: |already exists)', message)
    return found[1] if found else ""


def _causes(message: str) -> Iterator[dict[str, str]]:
    """kubectl shows these and not the message."""
    findings = message.partition(_ABOUT_THE_OBJECT)[2]
    for finding in _NEXT_FINDING.split(findings):
        field, colon, why = finding.partition(": ")
        known = colon and not re.search(r"\s", field)
        yield {"reason": "FieldValueInvalid", "field": field if known else "", "message": why if known else finding}
