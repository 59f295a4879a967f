"""What the host builder reads of a build Job, and what it writes of it: the Pod that a kubelet would have played.

Pure. The forms are those that resources.observed reads and the test bed's kubelet writes. Called by builder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from knative_lambda.api import kinds, meta
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Object
from knative_lambda.kit import digest
from knative_lambda.machinery.recorder import Regarding
from knative_lambda.resources import build_request
from knative_lambda.resources.kaniko_job import CONTEXT_CONTAINER, KANIKO_CONTAINER

MESSAGE_BYTES = 4096
"""The kubelet keeps no more of a termination message."""
DEADLINE_SECONDS = 1800.0
TTL_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class BuildJob:
    """A build Job."""

    key: Key
    uid: str
    request: str
    """The init container's BUILD_REQUEST."""
    secret: str
    """Of the source, in the Job's namespace; empty for none."""
    seconds: float
    """activeDeadlineSeconds."""
    retries: int
    """backoffLimit."""
    ttl: float
    """Seconds that it stays after its end."""
    labels: dict[str, str]
    """Of its Pods."""
    function: Regarding
    """The LambdaFunction that it is built for."""
    deleting: bool
    ended: datetime | None

    def pod_name(self) -> str:
        """The same at every attempt to write it."""
        return f"{self.key.name}-{digest.short(self.uid, length=5)}"


@dataclass(frozen=True, slots=True)
class End:
    """How a build ended."""

    container: str
    """The one that decides: Kaniko's when it went well, else the program that failed."""
    code: int
    message: str
    reason: str = ""
    """Of the Job's Failed condition; empty when it is complete."""
    words: str = ""

    @classmethod
    def built(cls, image: str) -> End:
        """The digest is what Kaniko would have left."""
        return cls(KANIKO_CONTAINER, 0, image)

    @classmethod
    def failed(cls, tool: str, code: int, message: str) -> End:
        """With the last lines of the log."""
        if tool == CONTEXT_CONTAINER and code == build_request.EXIT_REFUSED:
            words = f"container {tool} failed with exit code {code}, for which there is no second attempt"
            return cls(tool, code, message, "PodFailurePolicy", words)
        return cls(tool, code, message, "BackoffLimitExceeded", "Job has reached the specified backoff limit")

    @classmethod
    def expired(cls) -> End:
        """The Job's deadline came first."""
        words = "Job was active longer than specified deadline"
        return cls(KANIKO_CONTAINER, 137, words, "DeadlineExceeded", words)


def project(obj: Object) -> BuildJob | None:
    """For an informer; a Job that holds no build request of ours is none of this builder's."""
    spec, metadata = obj.get("spec", {}), obj["metadata"]
    template = spec.get("template", {})
    request = _request(template.get("spec", {}))
    if not request:
        return None
    return BuildJob(
        key=Key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        request=request,
        secret=_secret(template.get("spec", {})),
        seconds=float(spec.get("activeDeadlineSeconds", DEADLINE_SECONDS)),
        retries=int(spec.get("backoffLimit", 0)),
        ttl=float(spec.get("ttlSecondsAfterFinished", TTL_SECONDS)),
        labels=dict(template.get("metadata", {}).get("labels", {})),
        function=_function(metadata),
        deleting="deletionTimestamp" in metadata,
        ended=_ended(obj),
    )


def pod(job: BuildJob) -> Object:
    """The Job's Pod, as the Job controller makes it; the garbage collector takes it with the Job."""
    labels = {**job.labels, "batch.kubernetes.io/job-name": job.key.name, "batch.kubernetes.io/controller-uid": job.uid}
    owner = meta.owner_reference(kind=kinds.JOB, name=job.key.name, uid=job.uid)
    containers = {"initContainers": [{"name": CONTEXT_CONTAINER}], "containers": [{"name": KANIKO_CONTAINER}]}
    return {
        "apiVersion": kinds.POD.api_version,
        "kind": kinds.POD.kind,
        "metadata": {
            "name": job.pod_name(),
            "namespace": job.key.namespace,
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": containers,
    }


def pod_status(end: End, now: datetime) -> Object:
    """The Pod's status once it is over."""
    decided = _terminated(end, now)
    if end.container == CONTEXT_CONTAINER:
        waiting = {"name": KANIKO_CONTAINER, "state": {"waiting": {"reason": "PodInitializing"}}}
        parts = {"initContainerStatuses": [decided], "containerStatuses": [waiting]}
    else:
        laid_out = _terminated(End(CONTEXT_CONTAINER, 0, ""), now)
        parts = {"initContainerStatuses": [laid_out], "containerStatuses": [decided]}
    return {"phase": "Failed" if end.code else "Succeeded", **parts}


def job_status(end: End, now: datetime) -> Object:
    """The Job's status once it is over."""
    moment = meta.timestamp(now)
    condition = {"type": "Complete", "status": "True", "lastTransitionTime": moment}
    if end.code == 0:
        return {"succeeded": 1, "completionTime": moment, "conditions": [condition]}
    failed = {**condition, "type": "Failed", "reason": end.reason, "message": end.words}
    return {"failed": 1, "conditions": [failed]}


def _terminated(end: End, now: datetime) -> Object:
    moment = meta.timestamp(now)
    state: Object = {
        "exitCode": end.code,
        "reason": "Error" if end.code else "Completed",
        "finishedAt": moment,
    }
    if end.message:
        state["message"] = end.message.encode()[-MESSAGE_BYTES:].decode("utf-8", "ignore")
    return {"name": end.container, "restartCount": 0, "ready": False, "state": {"terminated": state}}


def _function(metadata: dict[str, Any]) -> Regarding:
    owner: dict[str, str] = next(iter(metadata.get("ownerReferences", [])), {})
    key = Key(metadata["namespace"], owner.get("name", ""))
    return Regarding(kinds.LAMBDA_FUNCTION, key, owner.get("uid", ""))


def _request(pod_spec: dict[str, Any]) -> str:
    for container in pod_spec.get("initContainers", []):
        for variable in container.get("env", []) if container.get("name") == CONTEXT_CONTAINER else []:
            if variable.get("name") == build_request.VARIABLE:
                value: str = variable.get("value", "")
                return value
    return ""


def _secret(pod_spec: dict[str, Any]) -> str:
    volumes = pod_spec.get("volumes", [])
    found = (one["secret"].get("secretName", "") for one in volumes if one.get("name") == "source-credentials")
    return next(found, "")


def _ended(obj: Object) -> datetime | None:
    for condition in obj.get("status", {}).get("conditions", []):
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return datetime.fromisoformat(condition["lastTransitionTime"])
    return None
