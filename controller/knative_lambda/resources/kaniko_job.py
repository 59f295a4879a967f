"""The build Job: an init container of ours fetches and lays out the context, Kaniko builds and pushes it.

Shape, capabilities and flags are those of api-facts 5.2 and 5.3. Source credentials reach the init container alone,
push credentials Kaniko alone, a service-account token neither. Called by reconcile.steps.build.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from knative_lambda.api import kinds, meta
from knative_lambda.api.function import LambdaFunction, SecretRef, Source
from knative_lambda.kit import duration
from knative_lambda.resources import build_request, child, names
from knative_lambda.resources.child import Component, Manifest
from knative_lambda.resources.images import Registries, Repositories

CONTEXT_CONTAINER = "build-context"
KANIKO_CONTAINER = "kaniko"
TERMINATION_LOG = "/dev/termination-log"
NONROOT = 65532
ALLOW_NETWORKS = "KN_LAMBDA_ALLOW_NETWORKS"
"""Environment variable of our own settings, read by `kn-lambda build-context`."""

_KANIKO_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID", "SETFCAP"]
"""What unpacking and changing image layers takes; Pod Security `baseline` allows them."""


@dataclass(frozen=True, slots=True)
class BuildResources:
    """What one build may cost."""

    cpu_request: str = "500m"
    memory_request: str = "1Gi"
    memory_limit: str = "2Gi"
    storage_request: str = "2Gi"
    storage_limit: str = "6Gi"
    workspace_limit: str = "1Gi"


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How builds run, for every function of this controller."""

    registries: Registries
    builder_image: str
    builder_version: str
    """Identity of shims and Dockerfiles: a new one rebuilds."""
    kaniko_image: str = "ghcr.io/osscontainertools/kaniko:v1.28.3"
    namespace: str | None = None
    """Where builds run; the function's namespace when None."""
    backoff_limit: int = 3
    ttl_seconds: int = 3600
    cache: bool = True
    allow_networks: tuple[str, ...] = ()
    """What the controller may dial although it is refused by rule; the init container is told the same."""
    resources: BuildResources = field(default_factory=BuildResources)


@dataclass(frozen=True, slots=True)
class Build:
    """One build of one function, as it is decided."""

    digest: str
    request: str
    """`build_request.encode`."""
    repositories: Repositories


def build_namespace(fn: LambdaFunction, settings: BuildSettings) -> str:
    """Where the Job of that function runs."""
    return settings.namespace or fn.metadata.namespace


def manifest(fn: LambdaFunction, build: Build, settings: BuildSettings) -> Manifest:
    """The whole Job."""
    name = names.kaniko_job(fn, build.digest)
    metadata = child.metadata(fn, name=name, component=Component.BUILD, namespace=build_namespace(fn, settings))
    metadata["labels"] = _labels(fn)
    metadata["annotations"] = {meta.ANNOTATION_BUILD: build.digest}
    return {
        "apiVersion": kinds.JOB.api_version,
        "kind": kinds.JOB.kind,
        "metadata": metadata,
        "spec": {
            "backoffLimit": settings.backoff_limit,
            "activeDeadlineSeconds": duration.seconds(fn.spec.build.timeout),
            "ttlSecondsAfterFinished": settings.ttl_seconds,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {
                "metadata": {"labels": _labels(fn), "annotations": {"linkerd.io/inject": "disabled"}},
                "spec": _pod(fn, build, settings),
            },
        },
    }


def _labels(fn: LambdaFunction) -> dict[str, str]:
    return {
        **child.labels(fn, Component.BUILD),
        child.LABEL_FUNCTION_NAMESPACE: fn.metadata.namespace,
        child.LABEL_FUNCTION_UID: fn.metadata.uid,
    }


def _failure_rules() -> list[Manifest]:
    """A drained node costs no attempt; a source that can never be built takes no second one."""
    refused = {"containerName": CONTEXT_CONTAINER, "operator": "In", "values": [build_request.EXIT_REFUSED]}
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": refused},
    ]


def _pod(fn: LambdaFunction, build: Build, settings: BuildSettings) -> Manifest:
    source_secret = source_secret_of(fn.spec.source)
    push_secret = fn.spec.build.push_secret or fn.spec.build.image_pull_secret
    volumes: list[Manifest] = [
        {"name": "workspace", "emptyDir": {"sizeLimit": settings.resources.workspace_limit}},
        {"name": "scratch", "emptyDir": {"sizeLimit": settings.resources.workspace_limit}},
    ]
    if source_secret is not None:
        volumes.append({"name": "source-credentials", "secret": {"secretName": source_secret.name}})
    if push_secret is not None:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volumes.append({"name": "push-credentials", "secret": {"secretName": push_secret, "items": items}})
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [_context_container(build, settings, with_credentials=source_secret is not None)],
        "containers": [_kaniko_container(build, settings, with_credentials=push_secret is not None)],
        "volumes": volumes,
    }


def source_secret_of(source: Source) -> SecretRef | None:
    """The Secret that the source names, whichever kind it is."""
    member = source.minio or source.s3 or source.gcs or source.git
    return member.secret_ref if member is not None else None


def _context_container(build: Build, settings: BuildSettings, *, with_credentials: bool) -> Manifest:
    mounts: list[Manifest] = [
        {"name": "workspace", "mountPath": build_request.WORKSPACE},
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - a path in the container, an emptyDir of its own
    ]
    if with_credentials:
        mounts.append({"name": "source-credentials", "mountPath": build_request.CREDENTIALS, "readOnly": True})
    return {
        "name": CONTEXT_CONTAINER,
        "image": settings.builder_image,
        "command": ["kn-lambda", "build-context"],
        "env": _context_environment(build, settings),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NONROOT,
            "runAsGroup": NONROOT,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": mounts,
    }


def _context_environment(build: Build, settings: BuildSettings) -> list[Manifest]:
    request = [{"name": build_request.VARIABLE, "value": build.request}]
    if not settings.allow_networks:
        return request
    return [*request, {"name": ALLOW_NETWORKS, "value": ",".join(settings.allow_networks)}]


def _kaniko_container(build: Build, settings: BuildSettings, *, with_credentials: bool) -> Manifest:
    costs = settings.resources
    mounts: list[Manifest] = [{"name": "workspace", "mountPath": build_request.WORKSPACE}]
    if with_credentials:
        mounts.append({"name": "push-credentials", "mountPath": "/kaniko/.docker", "readOnly": True})
    return {
        "name": KANIKO_CONTAINER,
        "image": settings.kaniko_image,
        "args": _kaniko_arguments(build, settings),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "runAsUser": 0,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": _KANIKO_CAPABILITIES},
        },
        "resources": {
            "requests": {
                "cpu": costs.cpu_request,
                "memory": costs.memory_request,
                "ephemeral-storage": costs.storage_request,
            },
            "limits": {"memory": costs.memory_limit, "ephemeral-storage": costs.storage_limit},
        },
        "volumeMounts": mounts,
    }


def _kaniko_arguments(build: Build, settings: BuildSettings) -> list[str]:
    """The digest file is the termination message: it is trusted with exit code 0 and the Job's Complete alone."""
    cache = [f"--cache-repo={build.repositories.push}/cache"] if settings.cache else []
    return [
        f"--context=dir://{build_request.WORKSPACE}",
        f"--dockerfile={build_request.WORKSPACE}/Dockerfile",
        f"--destination={build.repositories.destination(names.image_tag(build.digest))}",
        f"--digest-file={TERMINATION_LOG}",
        *(f"--insecure-registry={host}" for host in settings.registries.insecure),
        f"--cache={'true' if settings.cache else 'false'}",
        *cache,
        "--snapshot-mode=redo",
        "--reproducible",
        "--push-retry=3",
        "--image-download-retry=3",
    ]
