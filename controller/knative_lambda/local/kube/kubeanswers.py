"""Answers of the local Kubernetes API as bytes. Called by kubeapi and kubeverbs."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from knative_lambda.cluster.base import Object

NO_STORE = {"cache-control": "no-store"}


def json(obj: Object, *, status: int = 200) -> Response:
    """Never kept by anyone: objects may be Secrets."""
    return Response(orjson.dumps(obj), status_code=status, media_type="application/json", headers=NO_STORE)


def failed(status: Object) -> Response:
    """A metav1.Status with its own code."""
    answer = json(status, status=status["code"])
    if after := status.get("details", {}).get("retryAfterSeconds"):
        answer.headers["retry-after"] = str(after)
    return answer
