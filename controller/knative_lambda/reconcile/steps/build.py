"""Is the image of this source built and pushed?

A build is named by the digest of all that decides about its image. What the status knows of that digest counts first,
for a Job is deleted an hour after it ended; then the Job; and without both, a Job is made. A failed build is tried
again only for another digest: a new spec, or another value of the rebuild annotation.
"""

from __future__ import annotations

from dataclasses import dataclass

from knative_lambda.api import kinds, meta
from knative_lambda.api.conditions import ConditionType, Reason, find
from knative_lambda.api.function import BuildStatus, Runtime
from knative_lambda.kit import redact
from knative_lambda.reconcile.plan import GO, Create, Draft, Stall, Verdict, Wait
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot
from knative_lambda.resources import build_request, child, images, kaniko_job, names
from knative_lambda.resources.build_request import BuildRequestError
from knative_lambda.resources.child import Ownership
from knative_lambda.resources.images import Repositories
from knative_lambda.resources.kaniko_job import CONTEXT_CONTAINER, KANIKO_CONTAINER, Build
from knative_lambda.resources.observed import ContainerEnd, JobSeen, JobState, PodSeen
from knative_lambda.sources.base import Resolution

LOG_LIMIT = 2000
"""Characters of a failed build's log that go into the status; its end says what went wrong."""
POD_DELAY, POD_PATIENCE = 2.0, 120.0
"""Seconds between looks for the Pod of a complete Job, and how long: two watches may differ by moments."""
LOG_PATIENCE = 5.0
"""The same for the Pod of a failed Job, which tells why; the failure itself is certain without it."""
TAKEN_RECHECK = 60.0

_FAILURES = {reason.value: reason for reason in (Reason.BUILD_FAILED, Reason.BUILD_TIMEOUT, Reason.BUILD_UNTRUSTED)}


@dataclass(frozen=True, slots=True)
class _Asked:
    """The build that the spec asks for."""

    digest: str
    job_name: str
    runtime: Runtime
    resolution: Resolution
    repositories: Repositories


def step(seen: Snapshot, draft: Draft, settings: ReconcileSettings) -> Verdict:
    """Sets draft.image when there is one to run, and draft.build_digest when it is known which build that takes."""
    ready = seen.fn.spec.source.image
    if ready is not None:
        return _given(draft, ready.uri)
    if draft.runtime is None or draft.resolution is None:
        missing = "a runtime that has a builder" if draft.runtime is None else "the source"
        draft.conditions.mark_unknown(ConditionType.BUILD_READY, Reason.PENDING, f"waits for {missing}")
        return GO
    repositories = images.repositories(seen.fn, settings.build.registries)
    if not images.is_repository(repositories.push):
        written = seen.fn.spec.build.registry or repositories.push
        message = f"{written!r} is no image name; write a repository without a tag, such as ghcr.io/me/hello"
        return _stall(draft, Reason.IMAGE_NAME_INVALID, message)
    digest = identity(seen, draft.runtime, draft.resolution, settings)
    draft.build_digest = digest
    asked = _Asked(digest, names.kaniko_job(seen.fn, digest), draft.runtime, draft.resolution, repositories)
    return _known(seen, draft, asked) or _by_job(seen, draft, asked, settings)


def identity(seen: Snapshot, runtime: Runtime, resolution: Resolution, settings: ReconcileSettings) -> str:
    """Identity of the build that the spec asks for; `observe` compares it with the last one, too."""
    return build_request.identity(
        seen.fn,
        runtime=runtime,
        source_digest=resolution.digest,
        builder_version=settings.build.builder_version,
        repository=images.repositories(seen.fn, settings.build.registries).push,
        rebuild=seen.metadata.annotations.get(meta.ANNOTATION_REBUILD, ""),
    )


def _given(draft: Draft, uri: str) -> Verdict:
    draft.build_digest, draft.build_status = "", None
    if not images.is_reference(uri):
        return _stall(draft, Reason.IMAGE_NAME_INVALID, f"{uri!r} is no image name, such as ghcr.io/me/hello:1.0")
    draft.image = uri
    draft.conditions.mark_true(ConditionType.BUILD_READY, Reason.IMAGE_GIVEN, f"{uri} is deployed as it is")
    return GO


def _known(seen: Snapshot, draft: Draft, asked: _Asked) -> Verdict | None:
    """What the status says of this very build; None when it is not over."""
    build = seen.status.build_status
    if build is None or build.digest != asked.digest:
        return None
    if build.image_uri:
        return _built(draft, build, asked.repositories.pinned(build.image_uri.rpartition("@")[2]))
    if build.error:
        before = find(seen.status.conditions, ConditionType.BUILD_READY)
        reason = _FAILURES.get(before.reason if before else "", Reason.BUILD_FAILED)
        return _stall(draft, reason, build.error)
    return None


def _by_job(seen: Snapshot, draft: Draft, asked: _Asked, settings: ReconcileSettings) -> Verdict:
    job = next((job for job in seen.jobs if job.key.name == asked.job_name), None)
    if job is None:
        return _start(seen, draft, asked, settings)
    if child.ownership(job, seen.metadata) is not Ownership.OURS or job.build_digest != asked.digest:
        return _stall(draft, Reason.NOT_OWNED, f"Job {job.key} belongs to somebody else", after=TAKEN_RECHECK)
    status = _status_of(seen, job)
    draft.build_status = status
    if job.state is JobState.RUNNING:
        newest = next(iter(_pods_of(seen, job)), None)
        return _building(seen, draft, asked, trouble=newest.blocked if newest else "")
    ending = _completed if job.state is JobState.COMPLETE else _failed
    return ending(seen, draft, asked, job=job, status=status)


def _start(seen: Snapshot, draft: Draft, asked: _Asked, settings: ReconcileSettings) -> Verdict:
    request = build_request.of(seen.fn, runtime=asked.runtime, revision=asked.resolution.revision)
    try:
        build = Build(asked.digest, build_request.encode(request), asked.repositories)
    except BuildRequestError as error:
        return _stall(draft, Reason.INVALID_SPEC, str(error))
    manifest = kaniko_job.manifest(seen.fn, build, settings.build)
    draft.writes.append(Create(kinds.JOB, manifest, ConditionType.BUILD_READY))
    now = seen.now.replace(microsecond=0)
    draft.build_status = BuildStatus(digest=asked.digest, job_name=asked.job_name, started_at=now)
    return _building(seen, draft, asked)


def _status_of(seen: Snapshot, job: JobSeen) -> BuildStatus:
    """The start stays as it was first told, so that looking again changes nothing."""
    before = seen.status.build_status
    told = before.started_at if before is not None and before.digest == job.build_digest else None
    return BuildStatus(digest=job.build_digest, job_name=job.key.name, started_at=told or job.created or seen.now)


def _building(seen: Snapshot, draft: Draft, asked: _Asked, *, trouble: str = "", after: float | None = None) -> Verdict:
    """The same words from the first moment to the last: looking again costs no status write."""
    kind, revision = seen.fn.spec.source.type.value, asked.resolution.revision[:12]
    message = f"Job {asked.job_name} builds {kind} source {revision}" + (trouble and f"; {trouble}")
    draft.conditions.mark_unknown(ConditionType.BUILD_READY, Reason.BUILDING, message)
    return Wait(Reason.BUILDING, message, after=after)


def _completed(seen: Snapshot, draft: Draft, asked: _Asked, *, job: JobSeen, status: BuildStatus) -> Verdict:
    """Kaniko writes the digest before it pushes (api-facts 5.2): it counts only now that the Job is complete, and only
    from a Pod of this very Job.
    """
    ends = [end for pod in _pods_of(seen, job) if (end := pod.end_of(KANIKO_CONTAINER)) and end.exit_code == 0]
    if not ends and _is_young(seen, job, POD_PATIENCE):
        return _building(seen, draft, asked, after=POD_DELAY)
    told = ends[0].message if ends else ""
    if not images.is_digest(told):
        why = f"told {told[:80]!r} as its digest" if told else "left no digest"
        message = f"Job {job.key.name} is complete, but {why}; what cannot be pinned is not deployed. Build it again"
        return _over(draft, status, job, reason=Reason.BUILD_UNTRUSTED, message=message)
    return _built(draft, status.model_copy(update={"completed_at": job.ended}), asked.repositories.pinned(told))


def _failed(seen: Snapshot, draft: Draft, asked: _Asked, *, job: JobSeen, status: BuildStatus) -> Verdict:
    if job.reason == "DeadlineExceeded":
        message = f"the build was ended after build.timeout, {seen.fn.spec.build.timeout}"
        return _over(draft, status, job, reason=Reason.BUILD_TIMEOUT, message=message)
    ends = [end for pod in _pods_of(seen, job) for end in pod.ends if end.exit_code != 0]
    if not ends and _is_young(seen, job, LOG_PATIENCE):
        return _building(seen, draft, asked, after=POD_DELAY)
    message = _told(ends[0]) if ends else job.message or "the build Job failed"
    return _over(draft, status, job, reason=Reason.BUILD_FAILED, message=message)


def _told(end: ContainerEnd) -> str:
    """The last lines of the log, which the kubelet left in the termination message."""
    if images.is_digest(end.message):
        return f"{end.container} exited with {end.exit_code} while it pushed the image; its log says why"
    doing = "fetching the source" if end.container == CONTEXT_CONTAINER else "building the image"
    log = redact.clip(redact.text(end.message), LOG_LIMIT)
    return f"{doing} failed ({end.container} exited with {end.exit_code}): {log or 'it left no log'}"


def _built(draft: Draft, build: BuildStatus, image: str) -> Verdict:
    draft.image = image
    draft.build_status = build.model_copy(update={"image_uri": image, "error": ""})
    draft.conditions.mark_true(ConditionType.BUILD_READY, Reason.BUILD_SUCCEEDED, f"{image} is pushed")
    return GO


def _over(draft: Draft, status: BuildStatus, job: JobSeen, *, reason: Reason, message: str) -> Verdict:
    draft.build_status = status.model_copy(update={"completed_at": job.ended, "error": message})
    return _stall(draft, reason, message)


def _stall(draft: Draft, reason: Reason, message: str, *, after: float | None = None) -> Verdict:
    draft.conditions.mark_false(ConditionType.BUILD_READY, reason, message)
    return Stall(reason, message, after=after)


def _pods_of(seen: Snapshot, job: JobSeen) -> list[PodSeen]:
    """Newest first; a Pod belongs to a Job by its controller's uid, never by its labels."""
    mine = [pod for pod in seen.pods if pod.job_uid == job.uid]
    return sorted(mine, key=lambda pod: pod.created or seen.now, reverse=True)


def _is_young(seen: Snapshot, job: JobSeen, seconds: float) -> bool:
    """Whether the Job ended so few seconds ago; a clock that differs from the server's by more makes nobody wait."""
    return job.ended is not None and abs((seen.now - job.ended).total_seconds()) < seconds
