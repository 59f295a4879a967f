"""Knative's own validation, as our tests call it, knows good Services from bad ones."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.testbed import ksvc
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up

if TYPE_CHECKING:
    from collections.abc import Callable


KSERVICE: dict[str, Any] = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {
        "name": "my-fn",
        "namespace": "tenant-1",
        "labels": {"networking.knative.dev/visibility": "cluster-local"},
    },
    "spec": {
        "template": {
            "metadata": {
                "labels": {"app": "my-fn"},
                "annotations": {
                    "autoscaling.knative.dev/min-scale": "0",
                    "autoscaling.knative.dev/max-scale": "50",
                    "autoscaling.knative.dev/metric": "concurrency",
                    "autoscaling.knative.dev/target": "10",
                    "autoscaling.knative.dev/window": "60s",
                    "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "30s",
                },
            },
            "spec": {
                "serviceAccountName": "fn-my-fn",
                "automountServiceAccountToken": False,
                "containerConcurrency": 0,
                "timeoutSeconds": 60,
                "imagePullSecrets": [{"name": "pull"}],
                "containers": [
                    {
                        "image": f"ghcr.io/o/r@sha256:{'0' * 64}",
                        "ports": [{"name": "http1", "containerPort": 8080}],
                        "env": [
                            {"name": "A", "value": "b"},
                            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                        ],
                        "envFrom": [{"configMapRef": {"name": "c"}}],
                        "resources": {
                            "requests": {"cpu": "25m", "memory": "64Mi"},
                            "limits": {"memory": "128Mi"},
                        },
                        "readinessProbe": {"httpGet": {"path": "/healthz"}},
                        "securityContext": {
                            "runAsNonRoot": True,
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
        "traffic": [{"latestRevision": True, "percent": 100}],
    },
}


@pytest.fixture
def checked() -> Callable[[dict[str, Any]], list[ksvc.Finding]]:
    """Knative's findings about one Service."""

    def check(manifest: dict[str, Any]) -> list[ksvc.Finding]:
        try:
            return ksvc.check([manifest])
        except Unavailable as gap:
            give_up(gap.reason)

    return check


def test_knative_accepts_a_good_service(checked: Callable[[dict[str, Any]], list[ksvc.Finding]]) -> None:
    assert checked(KSERVICE) == []


def test_knative_refuses_a_field_reference(checked: Callable[[dict[str, Any]], list[ksvc.Finding]]) -> None:
    manifest = copy.deepcopy(KSERVICE)
    reference = {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    manifest["spec"]["template"]["spec"]["containers"][0]["env"].append(reference)

    (finding,) = checked(manifest)

    assert (finding.level, finding.name) == ("error", "my-fn")
    assert "valueFrom.fieldRef" in finding.message


def test_knative_warns_of_a_missing_security_context(
    checked: Callable[[dict[str, Any]], list[ksvc.Finding]],
) -> None:
    manifest = copy.deepcopy(KSERVICE)
    del manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert {finding.level for finding in checked(manifest)} == {"warning"}


def test_unknown_field_of_a_service_is_an_error(
    checked: Callable[[dict[str, Any]], list[ksvc.Finding]],
) -> None:
    manifest = copy.deepcopy(KSERVICE)
    manifest["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    (finding,) = checked(manifest)
    assert 'unknown field "imagee"' in finding.message
