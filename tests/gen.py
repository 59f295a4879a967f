"""Objects for tests, said in few words: `lambda_function("hello", with_source(git()), built("sha256:…"))`.

Children are made by the real builders and the real projections, so that a test sees what a controller would see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from knative_lambda.api import kinds, meta
from knative_lambda.api.conditions import ConditionType, Reason, Status
from knative_lambda.api.function import LambdaFunction, Language, parse
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot, SourceProblem
from knative_lambda.resources import build_request, child, images, kaniko_job, knative_service, names, observed, trigger
from knative_lambda.resources.images import Registries
from knative_lambda.resources.kaniko_job import Build, BuildSettings
from knative_lambda.resources.observed import BrokerSeen, JobSeen, PodSeen, ServiceSeen, TriggerSeen
from knative_lambda.sources import identity
from knative_lambda.sources.base import Resolution

Raw = dict[str, Any]
Part = Callable[[Raw], None]

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAMESPACE = "tenant-1"
URL = "https://example.com/functions.git"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGE_DIGEST = "sha256:" + "ab" * 32
OTHER_DIGEST = "sha256:" + "cd" * 32

SETTINGS = ReconcileSettings(
    build=BuildSettings(
        registries=Registries(push="kind-registry:5000", pull="localhost:5001", insecure=("kind-registry:5000",)),
        builder_image="ghcr.io/knative-lambda/controller:1",
        builder_version="b1",
    ),
    runtimes={Language.PYTHON: ("3.12", "3.13"), Language.NODEJS: ("22",)},
)


# ---- functions ----


def raw_function(name: str = "hello", *parts: Part, namespace: str = NAMESPACE, generation: int = 1) -> Raw:
    """A LambdaFunction as an API server would send it; inline Python unless the parts say otherwise."""
    raw: Raw = {
        "apiVersion": meta.API_VERSION,
        "kind": kinds.LAMBDA_FUNCTION.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}"[:36],
            "generation": generation,
            "resourceVersion": "7",
            "creationTimestamp": meta.timestamp(NOW),
            "annotations": {},
            "finalizers": [],
        },
        "spec": {"source": inline(), "runtime": {"language": "python", "version": "3.13", "handler": "main.handler"}},
    }
    for part in parts:
        part(raw)
    return raw


def lambda_function(
    name: str = "hello", *parts: Part, namespace: str = NAMESPACE, generation: int = 1
) -> LambdaFunction:
    """The same, parsed."""
    return parse(raw_function(name, *parts, namespace=namespace, generation=generation))


def inline(code: str = "def handler(event):\n    return 'hello'\n") -> Raw:
    return {"type": "inline", "inline": {"code": code}}


def git(url: str = URL, **more: Any) -> Raw:
    return {"type": "git", "git": {"url": url, "commit": COMMIT, "path": "functions/hello", **more}}


def branch(name: str = "main", url: str = URL, **more: Any) -> Raw:
    return {"type": "git", "git": {"url": url, "ref": name, **more}}


def image(uri: str = "ghcr.io/me/hello:1.0") -> Raw:
    return {"type": "image", "image": {"uri": uri}}


def with_source(source: Raw) -> Part:
    return lambda raw: raw["spec"].update(source=source)


def with_runtime(language: str, version: str, handler: str | None = None) -> Part:
    runtime = {"language": language, "version": version, **({"handler": handler} if handler else {})}
    return lambda raw: raw["spec"].update(runtime=runtime)


def with_spec(**parts: Any) -> Part:
    return lambda raw: raw["spec"].update(parts)


def with_trigger(broker: str = "default", **attributes: str) -> Part:
    def part(raw: Raw) -> None:
        raw["spec"].setdefault("triggers", []).append({"broker": broker, "filter": {"attributes": attributes}})

    return part


def annotated(name: str, value: str) -> Part:
    return lambda raw: raw["metadata"]["annotations"].update({name: value})


def held() -> Part:
    """With our finalizer."""
    return lambda raw: raw["metadata"]["finalizers"].append(meta.FINALIZER)


def deleted(ago: float = 0) -> Part:
    stamp = meta.timestamp(NOW - timedelta(seconds=ago))
    return lambda raw: raw["metadata"].update(deletionTimestamp=stamp)


def with_status(**parts: Any) -> Part:
    return lambda raw: raw.setdefault("status", {}).update(parts)


def with_condition(kind: ConditionType, status: Status, reason: Reason, message: str = "", *, ago: float = 60) -> Part:
    """Adds a row to status.conditions that has been so for `ago` seconds."""
    row = {
        "type": kind.value,
        "status": status.value,
        "reason": reason.value,
        "message": message,
        "lastTransitionTime": meta.timestamp(NOW - timedelta(seconds=ago)),
    }
    return lambda raw: raw.setdefault("status", {}).setdefault("conditions", []).append(row)


def building() -> Part:
    """A status that says: the build of this spec has begun."""
    return _with_build({"startedAt": meta.timestamp(NOW - timedelta(seconds=60))})


def built(image_digest: str = IMAGE_DIGEST) -> Part:
    """A status that says: this very spec has been built."""

    def part(raw: Raw) -> None:
        pinned = images.repositories(parse(raw), SETTINGS.build.registries).pinned(image_digest)
        _with_build({"imageURI": pinned, "completedAt": meta.timestamp(NOW)})(raw)

    return part


def build_failed(error: str = "no such module", reason: Reason = Reason.BUILD_FAILED) -> Part:
    def part(raw: Raw) -> None:
        _with_build({"error": error, "completedAt": meta.timestamp(NOW)})(raw)
        with_condition(ConditionType.BUILD_READY, Status.FALSE, reason, error)(raw)

    return part


def _with_build(more: Raw) -> Part:
    def part(raw: Raw) -> None:
        fn = parse(raw)
        asked = build_digest(fn)
        source = {
            "digest": resolution(fn).digest,
            "revision": resolution(fn).revision,
            "generation": fn.metadata.generation,
        }
        build = {"digest": asked, "jobName": names.kaniko_job(fn, asked), **more}
        status = {"observedGeneration": fn.metadata.generation, "sourceStatus": source, "buildStatus": build}
        raw.setdefault("status", {}).update(status)

    return part


# ---- what belongs to a function ----


def resolution(fn: LambdaFunction) -> Resolution:
    """What a resolver would say of the function's source; branches are at COMMIT."""
    source = fn.spec.source
    found = identity.known(source)
    if found is None:
        assert source.git is not None  # only a git source has to be asked
        found = identity.of_git(source.git, COMMIT)
    return found


def build_digest(fn: LambdaFunction, settings: ReconcileSettings = SETTINGS) -> str:
    """Identity of the build that the function asks for."""
    assert fn.spec.runtime is not None  # a ready image is not built
    return build_request.identity(
        fn,
        runtime=fn.spec.runtime,
        source_digest=resolution(fn).digest,
        builder_version=settings.build.builder_version,
        repository=images.repositories(fn, settings.build.registries).push,
        rebuild=fn.metadata.annotations.get(meta.ANNOTATION_REBUILD, ""),
    )


def job_manifest(fn: LambdaFunction, settings: ReconcileSettings = SETTINGS) -> Raw:
    """The Job that builds the function."""
    assert fn.spec.runtime is not None
    request = build_request.of(fn, runtime=fn.spec.runtime, revision=resolution(fn).revision)
    repositories = images.repositories(fn, settings.build.registries)
    build = Build(build_digest(fn, settings), build_request.encode(request), repositories)
    return kaniko_job.manifest(fn, build, settings.build)


def job(fn: LambdaFunction, *parts: Part, ended: float = 1) -> JobSeen:
    """The build Job of that function; running unless the parts end it. `ended`: seconds ago."""
    raw = _stored(job_manifest(fn), uid=f"job-{build_digest(fn)[:8]}")
    for part in parts:
        part(raw)
    stamp = meta.timestamp(NOW - timedelta(seconds=ended))
    for condition in raw.get("status", {}).get("conditions", []):
        condition["lastTransitionTime"] = stamp
    return observed.project_job(raw)


def complete() -> Part:
    return with_status(conditions=[{"type": "Complete", "status": "True"}])


def failed(reason: str = "BackoffLimitExceeded", message: str = "Job has reached the specified backoff limit") -> Part:
    return with_status(conditions=[{"type": "Failed", "status": "True", "reason": reason, "message": message}])


def stranger(name: str = "somebody") -> Part:
    """The object belongs to another controller."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": f"uid-{name}", "controller": True}
    return lambda raw: raw["metadata"].update(ownerReferences=[owner])


def predecessor() -> Part:
    """The object belongs to a function of the same name that was deleted."""
    return lambda raw: raw["metadata"]["ownerReferences"][0].update(uid="uid-of-an-earlier-life")


def going() -> Part:
    return lambda raw: raw["metadata"].update(deletionTimestamp=meta.timestamp(NOW))


def pod(owner: JobSeen, *, container: str = "kaniko", exit_code: int = 0, message: str = IMAGE_DIGEST) -> PodSeen:
    """A Pod of that Job whose container ended so."""
    part = "initContainerStatuses" if container == kaniko_job.CONTEXT_CONTAINER else "containerStatuses"
    ended = {"name": container, "state": {"terminated": {"exitCode": exit_code, "message": message}}}
    return _pod(owner, {part: [ended]})


def blocked_pod(owner: JobSeen, reason: str = "ErrImagePull") -> PodSeen:
    """A Pod of that Job that cannot start."""
    waiting = {"name": "kaniko", "state": {"waiting": {"reason": reason}}}
    return _pod(owner, {"containerStatuses": [waiting]})


def _pod(owner: JobSeen, status: Raw) -> PodSeen:
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": owner.key.name, "uid": owner.uid, "controller": True}
    labels = {meta.LABEL_FUNCTION: owner.function.name, child.LABEL_FUNCTION_NAMESPACE: owner.function.namespace}
    metadata = {
        "name": f"{owner.key.name}-x",
        "namespace": owner.key.namespace,
        "uid": f"pod-of-{owner.uid}",
        "labels": labels,
        "ownerReferences": [reference],
    }
    return observed.project_pod({"metadata": metadata, "status": status})


def pinned(fn: LambdaFunction, image_digest: str = IMAGE_DIGEST) -> str:
    """The built image as the Service runs it."""
    return images.repositories(fn, SETTINGS.build.registries).pinned(image_digest)


def service_manifest(fn: LambdaFunction, uri: str | None = None) -> Raw:
    return knative_service.manifest(fn, image=uri or pinned(fn), settings=SETTINGS.serving)


def service(fn: LambdaFunction, *parts: Part, uri: str | None = None) -> ServiceSeen:
    """The Knative Service of that function as we applied it; not ready unless the parts say so."""
    raw = _stored(service_manifest(fn, uri), uid=f"service-{fn.metadata.name}")
    for part in parts:
        part(raw)
    return observed.project_service(raw)


def service_ready(url: str = "http://hello.tenant-1.example.com") -> Part:
    return with_status(**ready_status(url))


def ready_status(url: str = "http://hello.tenant-1.example.com", generation: int = 1) -> Raw:
    """status of a Knative Service that is ready."""
    return {
        "observedGeneration": generation,
        "url": url,
        "address": {"url": "http://hello.tenant-1.svc.cluster.local"},
        "latestReadyRevisionName": "hello-00001",
        "conditions": [{"type": "Ready", "status": "True"}],
    }


def service_failed(reason: str = "RevisionFailed", message: str = "image cannot be pulled") -> Part:
    row = {"type": "Ready", "status": "False", "reason": reason, "message": message}
    return with_status(observedGeneration=1, conditions=[row])


def trigger_seen(fn: LambdaFunction, *parts: Part, number: int = 0) -> TriggerSeen:
    """The Trigger of the function's numbered trigger as we applied it."""
    raw = _stored(trigger.manifest(fn, fn.spec.triggers[number], sink=None), uid=f"trigger-{number}")
    for part in parts:
        part(raw)
    return observed.project_trigger(raw)


def ready() -> Part:
    return with_status(observedGeneration=1, conditions=[{"type": "Ready", "status": "True"}])


def broker(name: str = "default", *, is_ready: bool = True) -> dict[str, BrokerSeen]:
    """A Broker, as a snapshot holds it."""
    raw: Raw = {"metadata": {"name": name, "namespace": NAMESPACE, "uid": f"broker-{name}", "generation": 1}}
    raw["status"] = {"conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}]}
    return {name: observed.project_broker(raw)}


def _stored(manifest: Raw, *, uid: str) -> Raw:
    metadata = {
        **manifest["metadata"],
        "uid": uid,
        "generation": 1,
        "resourceVersion": "9",
        "creationTimestamp": meta.timestamp(NOW - timedelta(seconds=60)),
    }
    return {**manifest, "metadata": metadata}


def snapshot(fn: LambdaFunction, **parts: Any) -> Snapshot:
    """The world around that function: its source is resolved, nothing else is there unless it is given."""
    given: Mapping[str, Any] = {"now": NOW, "resolution": _default_resolution(fn), **parts}
    return Snapshot(fn=fn, **given)


def _default_resolution(fn: LambdaFunction) -> Resolution | None:
    return None if fn.spec.source.image is not None else resolution(fn)


def unresolved(reason: Reason = Reason.UNREACHABLE, message: str = "no route", *, retry: bool = True) -> SourceProblem:
    return SourceProblem(reason, message, retry=retry)
