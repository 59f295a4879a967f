"""The Knative Service that runs a function. Shape and rules are those of api-facts 2.1 and 2.2.

Pod Security `restricted` holds with what Knative allows on the container. Called by reconcile.steps.serve.
"""

from __future__ import annotations

from dataclasses import dataclass

from knative_lambda.api import kinds
from knative_lambda.api.function import EnvVar, KeyRef, LambdaFunction
from knative_lambda.resources import child, names
from knative_lambda.resources.child import Component, Manifest

PORT = 8080


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """How functions run, for every function of this controller."""

    request_timeout_seconds: int = 300
    """How long one request may take; Knative's own default limit is 600."""
    scratch_limit: str = "64Mi"
    """Size of /tmp, the only place that a function can write to."""


def manifest(fn: LambdaFunction, *, image: str, settings: ServingSettings) -> Manifest:
    """The whole Service, stamped."""
    return child.stamp(
        {
            "apiVersion": kinds.SERVICE.api_version,
            "kind": kinds.SERVICE.kind,
            "metadata": child.metadata(fn, name=names.service(fn), component=Component.SERVICE),
            "spec": {
                "template": {
                    "metadata": {"labels": _pod_labels(fn), "annotations": _autoscaling(fn)},
                    "spec": _pod(fn, image, settings),
                }
            },
        }
    )


def _pod_labels(fn: LambdaFunction) -> dict[str, str]:
    """`app`, because Knative puts the revision's name there otherwise and no policy could select the pods."""
    return {**child.labels(fn, Component.SERVICE), "app": fn.metadata.name}


def _autoscaling(fn: LambdaFunction) -> dict[str, str]:
    """Annotations of the template; legal only there. The grace period's only per-revision form is the retention."""
    scaling = fn.spec.scaling
    return {
        "autoscaling.knative.dev/min-scale": str(scaling.min_replicas),
        "autoscaling.knative.dev/max-scale": str(scaling.max_replicas),
        "autoscaling.knative.dev/metric": "concurrency",
        "autoscaling.knative.dev/target": str(scaling.target_concurrency),
        "autoscaling.knative.dev/scale-to-zero-pod-retention-period": scaling.scale_to_zero_grace_period,
    }


def _pod(fn: LambdaFunction, image: str, settings: ServingSettings) -> Manifest:
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "timeoutSeconds": settings.request_timeout_seconds,
        "containers": [_container(fn, image)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": settings.scratch_limit}}],
    }
    if fn.spec.build.image_pull_secret is not None:
        pod["imagePullSecrets"] = [{"name": fn.spec.build.image_pull_secret}]
    return pod


def _container(fn: LambdaFunction, image: str) -> Manifest:
    wanted = fn.spec.resources
    container: Manifest = {
        "name": "function",
        "image": image,
        "ports": [{"name": "http1", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "successThreshold": 1},
        "resources": {
            "requests": {"memory": wanted.requests.memory, "cpu": wanted.requests.cpu},
            "limits": {"memory": wanted.limits.memory, "cpu": wanted.limits.cpu},
        },
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - inside the container
    }
    if fn.spec.env:
        container["env"] = [_variable(variable) for variable in fn.spec.env]
    return container


def _variable(variable: EnvVar) -> Manifest:
    """Without value and valueFrom the variable is there and empty, which servers write without `value`."""
    if variable.value_from is None:
        return {"name": variable.name, "value": variable.value} if variable.value else {"name": variable.name}
    refs = {
        "secretKeyRef": variable.value_from.secret_key_ref,
        "configMapKeyRef": variable.value_from.config_map_key_ref,
    }
    given = {kind: _key(ref) for kind, ref in refs.items() if ref is not None}
    return {"name": variable.name, "valueFrom": given}


def _key(ref: KeyRef) -> Manifest:
    named: Manifest = {"name": ref.name, "key": ref.key}
    return {**named, "optional": True} if ref.optional else named
