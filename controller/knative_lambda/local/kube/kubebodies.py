"""What a client of the local Kubernetes API sent: one object, within limits of size, time and depth.

Our own client and kubectl send JSON, `kubectl create secret` the binary form, people with curl also YAML. Called by
kubeverbs.
"""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request

from knative_lambda.cluster.base import Object
from knative_lambda.gitsync import document
from knative_lambda.gitsync.document import DocumentError
from knative_lambda.kit.clock import Clock
from knative_lambda.local.kube import kubeprotobuf
from knative_lambda.local.kube.kubeprotobuf import Unreadable
from knative_lambda.local.kube.kubestatus import Refusal, bad_request
from knative_lambda.receivers import bodies
from knative_lambda.receivers.bodies import Budget
from knative_lambda.receivers.outcomes import Outcome, Refused

SIZE_LIMIT = 3 * 1024 * 1024
"""Bytes; the limit of a real API server."""
SECONDS = 30.0
DEPTH_LIMIT = 64
"""CustomResourceDefinitions are the deepest objects that there are."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
_JSON = frozenset({"", "application/json", MERGE, STRATEGIC})
_YAML = frozenset({"application/yaml", APPLY})
_KNOWN = _JSON | _YAML | {kubeprotobuf.MEDIA_TYPE}
_ANSWERS = {
    Outcome.TOO_LARGE: (413, "RequestEntityTooLarge", f"the request is larger than {SIZE_LIMIT} bytes"),
    Outcome.TOO_SLOW: (408, "Timeout", f"the request did not arrive within {SECONDS:g} s"),
    Outcome.BUSY: (503, "ServiceUnavailable", "too many large requests at once"),
}


def content_type(request: Request) -> str:
    """Without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class Bodies:
    """Reads the bodies of one server, which together stay within a budget of memory."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._budget = Budget()

    async def read(self, request: Request) -> Object:
        """The object. Raises Refusal; an empty body is an empty object."""
        kind = content_type(request)
        if kind not in _KNOWN or request.headers.get("content-encoding"):
            raise Refusal(415, "UnsupportedMediaType", f"a body of type {kind[:80]!r} is not read here")
        data = await self._bytes(request)
        try:
            return _object(data, kind)
        finally:
            self._budget.give_back(len(data))

    async def _bytes(self, request: Request) -> bytes:
        try:
            return await bodies.read(
                request.stream(), self._budget, limit=SIZE_LIMIT, seconds=SECONDS, clock=self._clock
            )
        except Refused as refused:
            raise Refusal(*_ANSWERS[refused.outcome]) from refused


def _object(data: bytes, kind: str) -> Object:
    found = _value(data, kind) if data.strip() else {}
    if not isinstance(found, dict):
        raise bad_request("the body is not an object")
    if _is_deeper(found, DEPTH_LIMIT):
        raise bad_request(f"the body nests deeper than {DEPTH_LIMIT}")
    return found


def _value(data: bytes, kind: str) -> Any:
    if kind == kubeprotobuf.MEDIA_TYPE:
        return _binary(data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if kind in _YAML:
            return _yaml(data)
        raise bad_request(f"the body is not JSON: {error.msg}") from error


def _binary(data: bytes) -> Object:
    try:
        return kubeprotobuf.decoded(data)
    except Unreadable as error:
        raise Refusal(415, "UnsupportedMediaType", str(error)) from error


def _yaml(data: bytes) -> Any:
    try:
        documents = document.parse(data)
    except DocumentError as error:
        where = f"line {error.line}: " if error.line else ""
        raise bad_request(f"the body is not YAML that is read here: {where}{error.message}") from error
    if len(documents) != 1:
        raise bad_request(f"the body holds {len(documents)} documents instead of one")
    return documents[0].value


def _is_deeper(found: Any, limit: int) -> bool:
    """Level by level: linear in the values, and no recursion."""
    level = [found]
    for _ in range(limit):
        children = (child for one in level for child in (one.values() if isinstance(one, dict) else one))
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True
