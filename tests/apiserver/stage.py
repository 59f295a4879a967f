"""A namespace on the real API server, seen as a user sees it: apply, wait, look, delete."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.testbed.apiclient import ApiClient, ApiError

T = TypeVar("T")
Object = dict[str, Any]

_ROOTS = {
    "lambdafunctions": "/apis/lambda.knative.io/v1alpha1",
    "functionrepositories": "/apis/lambda.knative.io/v1alpha1",
    "jobs": "/apis/batch/v1",
    "services": "/apis/serving.knative.dev/v1",
    "triggers": "/apis/eventing.knative.dev/v1",
    "brokers": "/apis/eventing.knative.dev/v1",
    "rabbitmqbrokerconfigs": "/apis/eventing.knative.dev/v1alpha1",
    "leases": "/apis/coordination.k8s.io/v1",
    "events": "/apis/events.k8s.io/v1",
    "pods": "/api/v1",
    "secrets": "/api/v1",
}


class Stage:
    """Reads and writes through the bed's own client, never through the product."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def path(self, plural: str, name: str = "") -> str:
        base = f"{_ROOTS[plural]}/namespaces/{self.namespace}/{plural}"
        return f"{base}/{name}" if name else base

    def apply(self, plural: str, manifest: Object) -> Object:
        return self.api.apply(self.path(plural, manifest["metadata"]["name"]), manifest, manager="a-person")

    def function(self, name: str) -> Object | None:
        return self.api.find(self.path("lambdafunctions", name))

    def list(self, plural: str, **query: str) -> list[Object]:
        return self.api.items(self.path(plural), **query)

    def patch(self, plural: str, name: str, patch: Object) -> Object:
        return self.api.merge(self.path(plural, name), patch)

    def delete(self, plural: str, name: str) -> None:
        self.api.delete(self.path(plural, name))

    def jobs_of(self, name: str) -> list[Object]:
        return self.list("jobs", labelSelector=f"lambda.knative.io/function={name}")

    def triggers_of(self, name: str) -> list[Object]:
        return self.list("triggers", labelSelector=f"lambda.knative.io/function={name}")

    def wait(self, look: Callable[[], T | None], *, what: str, timeout: float = 30) -> T:
        """The first truthy answer of `look`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if found := look():
                    return found
            except ApiError as error:
                if error.status < 500:
                    raise
            time.sleep(0.03)
        raise AssertionError(f"{what}: not within {timeout} s")

    def wait_ready(self, name: str, *, timeout: float = 30) -> Object:
        """The function once it is Ready for its newest generation."""
        return self._wait_for(name, lambda fn: condition(fn, "Ready", current=True).get("status") == "True", timeout)

    def wait_reason(self, name: str, kind: str, reason: str, *, timeout: float = 30) -> Object:
        """The function once that condition has that reason."""
        return self._wait_for(name, lambda fn: condition(fn, kind).get("reason") == reason, timeout)

    def wait_gone(self, plural: str, name: str, *, timeout: float = 30) -> None:
        self.wait(lambda: self.api.find(self.path(plural, name)) is None, what=f"{plural} {name} gone", timeout=timeout)

    def _wait_for(self, name: str, good: Callable[[Object], bool], timeout: float) -> Object:
        def look() -> Object | None:
            fn = self.function(name)
            return fn if fn and good(fn) else None

        try:
            return self.wait(look, what=f"function {name}", timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; its status: {(self.function(name) or {}).get('status')}") from None


def condition(obj: Object, kind: str, *, current: bool = False) -> Object:
    """That condition, or {}; with `current`, only when it speaks of the newest generation."""
    for row in obj.get("status", {}).get("conditions", []):
        if row["type"] == kind and (not current or row.get("observedGeneration") == obj["metadata"]["generation"]):
            found: Object = row
            return found
    return {}


def inline(name: str, *, code: str = "def handler(request):\n    return 'hello'\n", **spec: Any) -> Object:
    """An inline Python function."""
    return {
        "apiVersion": "lambda.knative.io/v1alpha1",
        "kind": "LambdaFunction",
        "metadata": {"name": name},
        "spec": {
            "source": {"type": "inline", "inline": {"code": code}},
            "runtime": {"language": "python"},
            **spec,
        },
    }


def repository(name: str, url: str, **spec: Any) -> Object:
    """A FunctionRepository that is asked often."""
    return {
        "apiVersion": "lambda.knative.io/v1alpha1",
        "kind": "FunctionRepository",
        "metadata": {"name": name},
        "spec": {"url": url, "interval": "5s", **spec},
    }
