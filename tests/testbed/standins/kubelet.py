"""A stand-in for the kubelet: plays the Pods of Jobs to their end by writing their status.

The Pods are made by the real controller manager from the Jobs, and it draws its own conclusions from what is
written here: Complete, retries up to backoffLimit, deadlines, cleaning up. No node exists, no container runs.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.testbed.standins.base import Key, Kind, Object, Outcomes, StandIn, condition, now, stamped

if TYPE_CHECKING:
    from pathlib import Path

PODS = Kind("/api/v1", "pods", selector="batch.kubernetes.io/job-name")
_OVER = frozenset({"Succeeded", "Failed"})
_MAIN = "kaniko"


@dataclass(frozen=True, slots=True)
class PodOutcome:
    """What becomes of a Pod: `delay` seconds of Running, then its containers end with `exit_code`.

    `message` is the termination message of the container that decides: the image digest when it succeeds
    (made up from the Job's name when empty), the last lines of its log when it fails. `container` names the
    one that fails, by default the main one; an init container may be named. `ends=False`: runs for ever.
    """

    exit_code: int = 0
    delay: float = 0.0
    message: str = ""
    container: str = ""
    ends: bool = True

    @classmethod
    def succeed(cls, *, delay: float = 0.0, digest: str = "") -> PodOutcome:
        """Ends well with an image digest."""
        return cls(delay=delay, message=digest)

    @classmethod
    def fail(cls, log: str, *, delay: float = 0.0, exit_code: int = 1, container: str = "") -> PodOutcome:
        """Ends with these last log lines."""
        return cls(exit_code=exit_code, delay=delay, message=log, container=container)

    @classmethod
    def never_end(cls) -> PodOutcome:
        """Runs until somebody deletes the Pod, as a deadline of the Job does."""
        return cls(ends=False)


def digest_of(job: str) -> str:
    """The image digest that a succeeding Job of that name ends with unless told otherwise."""
    return "sha256:" + hashlib.sha256(job.encode()).hexdigest()


class Kubelet(StandIn):
    """Plays Pods of Jobs. `outcomes.set("namespace/job-name pattern", PodOutcome...)` decides, per attempt."""

    kinds = (PODS,)

    def __init__(self, *, kubeconfig: Path, default: PodOutcome | None = None) -> None:
        super().__init__(kubeconfig=kubeconfig)
        self.outcomes = Outcomes(default or PodOutcome())
        self.finished = 0
        self._attempts: dict[str, list[str]] = {}
        self._playing: dict[str, asyncio.Task[None] | None] = {}

    async def look(self, key: Key, found: Object | None) -> None:
        """Start playing a Pod that has just appeared; a finished one or one on its way out is left alone."""
        if found is None or found.get("status", {}).get("phase") in _OVER:
            return
        uid = found["metadata"]["uid"]
        if uid in self._playing or "deletionTimestamp" in found["metadata"]:
            return
        outcome = self._outcome(found)
        if outcome.ends and outcome.delay == 0:
            await self._end(key, found, outcome)
            return
        await self.patch_status(key, _running(found))
        self._playing[uid] = asyncio.create_task(self._later(key, found, outcome)) if outcome.ends else None

    def _outcome(self, pod: Object) -> PodOutcome:
        job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
        owner = pod["metadata"]["labels"].get("batch.kubernetes.io/controller-uid", job)
        attempts = self._attempts.setdefault(owner, [])
        if pod["metadata"]["uid"] not in attempts:
            attempts.append(pod["metadata"]["uid"])
        return self.outcomes.of(pod["metadata"]["namespace"], job, attempts.index(pod["metadata"]["uid"]))

    async def _later(self, key: Key, pod: Object, outcome: PodOutcome) -> None:
        await asyncio.sleep(outcome.delay)
        del self._playing[pod["metadata"]["uid"]]
        if key in self.cache:
            await self._end(key, pod, outcome)

    async def _end(self, key: Key, pod: Object, outcome: PodOutcome) -> None:
        if await self.patch_status(key, _ended(pod, outcome)) is not None:
            self.finished += 1


def _running(pod: Object) -> Object:
    started = {"running": {"startedAt": now()}}
    spec = pod["spec"]
    return {
        "phase": "Running",
        "startTime": now(),
        "conditions": _conditions(pod, ready="True"),
        "initContainerStatuses": [_container(one, _terminated(0)) for one in spec.get("initContainers", [])],
        "containerStatuses": [_container(one, started, ready=True) for one in spec["containers"]],
    }


def _ended(pod: Object, outcome: PodOutcome) -> Object:
    spec = pod["spec"]
    names = [one["name"] for one in spec["containers"]]
    main = _MAIN if _MAIN in names else names[-1]
    deciding = outcome.container or main
    job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    message = outcome.message if outcome.exit_code or outcome.message else digest_of(job)
    in_init = deciding not in names
    states = {deciding: _terminated(outcome.exit_code, message)}
    waiting = {"waiting": {"reason": "PodInitializing"}}
    return {
        "phase": "Failed" if outcome.exit_code else "Succeeded",
        "startTime": pod.get("status", {}).get("startTime") or now(),
        "conditions": _conditions(pod, ready="False", initialized="False" if in_init else "True"),
        "initContainerStatuses": [
            _container(one, states.get(one["name"], _terminated(0))) for one in spec.get("initContainers", [])
        ],
        "containerStatuses": [
            _container(one, waiting if in_init else states.get(one["name"], _terminated(0)))
            for one in spec["containers"]
        ],
    }


def _terminated(exit_code: int, message: str = "") -> Object:
    told = {
        "exitCode": exit_code,
        "reason": "Error" if exit_code else "Completed",
        "startedAt": now(),
        "finishedAt": now(),
    }
    return {"terminated": {**told, "message": message[-4096:]} if message else told}  # the kubelet's limit


def _container(spec: Object, state: Object, *, ready: bool = False) -> Object:
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }


def _conditions(pod: Object, *, ready: str, initialized: str = "True") -> list[Object]:
    wanted = [
        condition("PodScheduled", "True"),
        condition("Initialized", initialized),
        condition("ContainersReady", ready),
        condition("Ready", ready),
    ]
    return stamped(wanted, pod.get("status", {}).get("conditions") or [])
