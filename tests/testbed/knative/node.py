"""A stand-in for one node and an ingress: Pods of Knative revisions run, and traffic reaches them, on paper.

It binds Pods to a node object, writes their status, deletes those on their way out, and tells of each internal
ingress that its load balancer is ready. Everything else is concluded by Knative's own controllers. Called by bed.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

from tests.testbed.errors import BedError
from tests.testbed.knative.netns import POD_ADDRESS
from tests.testbed.standins.base import Key, Kind, Object, Outcomes, StandIn, condition, now, stamped

if TYPE_CHECKING:
    from pathlib import Path

NODE = "lab-0"
PODS = Kind("/api/v1", "pods", selector="serving.knative.dev/revision")
INGRESSES = Kind("/apis/networking.internal.knative.dev/v1alpha1", "ingresses")
_SIDECAR = "queue-proxy"
_GATEWAY = "gateway.ingress.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class ContainerOutcome:
    """What the function's container does: it runs, or it ends again and again with a code and a message."""

    exit_code: int = 0
    message: str = ""

    @classmethod
    def crash(cls, message: str, *, exit_code: int = 1) -> ContainerOutcome:
        """Ends at once with these last words."""
        return cls(exit_code, message)


class Node(StandIn):
    """Plays Pods and ingresses. `outcomes.set("namespace/service pattern", ContainerOutcome...)` decides."""

    kinds = (PODS, INGRESSES)

    def __init__(self, *, kubeconfig: Path) -> None:
        super().__init__(kubeconfig=kubeconfig, workers=4)
        self.outcomes = Outcomes(ContainerOutcome())

    async def look(self, key: Key, found: Object | None) -> None:
        """Bring a Pod or an ingress to where a cluster would bring it."""
        if found is None:
            return
        if key.kind == INGRESSES:
            await self._route(key, found)
        elif "deletionTimestamp" in found["metadata"]:
            await self._send("DELETE", key.kind.url(key.namespace, key.name), {"gracePeriodSeconds": 0})
        elif not found["spec"].get("nodeName"):
            await self._bind(key)
        elif not found.get("status", {}).get("containerStatuses"):
            await self.patch_status(key, _pod_status(found, self._outcome(found)))

    def _outcome(self, pod: Object) -> ContainerOutcome:
        meta = pod["metadata"]
        return self.outcomes.of(meta["namespace"], meta["labels"]["serving.knative.dev/service"])

    async def _route(self, key: Key, ingress: Object) -> None:
        generation = ingress["metadata"]["generation"]
        if ingress.get("status", {}).get("observedGeneration") == generation:
            return
        balancer = {"ingress": [{"domainInternal": _GATEWAY}]}
        rows = [condition(kind, "True") for kind in ("LoadBalancerReady", "NetworkConfigured", "Ready")]
        status = {
            "observedGeneration": generation,
            "conditions": stamped(rows, ingress.get("status", {}).get("conditions") or []),
            "publicLoadBalancer": balancer,
            "privateLoadBalancer": balancer,
        }
        await self.patch_status(key, status)

    async def _bind(self, key: Key) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": key.name}, "target": target}
        await self._send("POST", f"{key.kind.url(key.namespace, key.name)}/binding", binding)

    async def _send(self, method: str, url: str, body: Object) -> None:
        """A write that may come too late: the object is gone, or it was done already."""
        assert self._session is not None
        headers = {"Content-Type": "application/json"}
        async with self._session.request(method, url, data=orjson.dumps(body), headers=headers) as response:
            answer = await response.read()
            if response.status >= HTTPStatus.BAD_REQUEST and response.status not in (
                HTTPStatus.NOT_FOUND,
                HTTPStatus.CONFLICT,
            ):
                raise BedError(f"{method} {url}: {response.status} {answer[:500]!r}")


def _pod_status(pod: Object, outcome: ContainerOutcome) -> Object:
    ready = "False" if outcome.exit_code else "True"
    rows = [
        condition("PodScheduled", "True"),
        condition("Initialized", "True"),
        condition("ContainersReady", ready),
        condition("Ready", ready),
    ]
    return {
        "phase": "Running",
        "startTime": now(),
        "podIP": POD_ADDRESS,
        "podIPs": [{"ip": POD_ADDRESS}],
        "conditions": stamped(rows, pod.get("status", {}).get("conditions") or []),
        "containerStatuses": [_container(one, outcome) for one in pod["spec"]["containers"]],
    }


def _container(spec: Object, outcome: ContainerOutcome) -> Object:
    told = {"name": spec["name"], "image": spec["image"], "imageID": ""}
    if spec["name"] == _SIDECAR or not outcome.exit_code:
        return {**told, "ready": True, "started": True, "restartCount": 0, "state": {"running": {"startedAt": now()}}}
    ended = {
        "exitCode": outcome.exit_code,
        "reason": "Error",
        "message": outcome.message,
        "startedAt": now(),
        "finishedAt": now(),
    }
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    return {
        **told,
        "ready": False,
        "started": False,
        "restartCount": 1,
        "state": waiting,
        "lastState": {"terminated": ended},
    }


def node_manifest() -> Object:
    """The node that the Pods are bound to; without one their addresses reach no Endpoints."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}


def node_status() -> Object:
    """Ready, with room for everything."""
    room = {"cpu": "64", "memory": "256Gi", "pods": "500"}
    return {"capacity": room, "allocatable": room, "conditions": [{**condition("Ready", "True", "Played")}]}
