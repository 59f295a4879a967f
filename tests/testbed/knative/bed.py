"""Knative Serving and Eventing's webhook, installed from their own manifests into a bed's API server and run.

Needs the network namespace of `netns`. The processes act as cluster admins. Called by the tier's fixtures.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import yaml

from tests.testbed import assets, processes
from tests.testbed.errors import BedError
from tests.testbed.knative import netns, node, queue_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.kubernetes import KubernetesBed

Object = dict[str, Any]

SERVING, EVENTING = "knative-serving", "knative-eventing"
CONTROLLERS = ("endpoints-controller",)
"""What the bed's controller manager must run besides: Knative reads Endpoints, not EndpointSlices."""

_WEBHOOK_SERVICES = {SERVING: "webhook", EVENTING: "eventing-webhook"}
_HOOKS = "/apis/admissionregistration.k8s.io/v1"
_ROOTS = {
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Endpoints": "/api/v1/namespaces/{namespace}/endpoints",
    "MutatingWebhookConfiguration": f"{_HOOKS}/mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": f"{_HOOKS}/validatingwebhookconfigurations",
}
_START_SECONDS = 90.0


class KnativeBed:
    """Knative's processes beside a running control plane. Made by `start`, ended by `stop`.

    `node.outcomes` decides what the containers of functions do.
    """

    def __init__(self, *, run: processes.Run, kubernetes: KubernetesBed, programs: dict[str, Path]) -> None:
        self._run = run
        self._kubernetes = kubernetes
        self._programs = programs
        self._servers: dict[str, processes.Server] = {}
        self._ports = {namespace: processes.free_port() for namespace in _WEBHOOK_SERVICES}
        self.node = node.Node(kubeconfig=kubernetes.kubeconfig)
        self._queue_proxy = queue_proxy.QueueProxy()
        self.started_in = 0.0

    @classmethod
    def start(cls, *, kubernetes: KubernetesBed) -> KnativeBed:
        """Install and start everything, and wait until the webhooks are asked. Raises Unavailable."""
        began = time.monotonic()
        bed = cls(run=processes.Run.begin("knative"), kubernetes=kubernetes, programs=assets.knative_programs())
        try:
            bed._start()
        except BaseException:
            bed.stop()
            raise
        bed.started_in = time.monotonic() - began
        return bed

    def __enter__(self) -> KnativeBed:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGKILL for everything: Knative's processes would drain for 45 seconds, and nothing is kept."""
        self.node.stop()
        self._queue_proxy.stop()
        self._run.end()

    def log(self, name: str) -> str:
        """The last lines of a process's log, by its name in `assets.KNATIVE_PROGRAMS`."""
        return self._servers[name].tail(40)

    # ---- inside ----

    def _start(self) -> None:
        api = self._kubernetes.api
        for namespace in _WEBHOOK_SERVICES:
            self._kubernetes.create_namespace(namespace)
        self._apply([_hurried(one) for one in _documents(assets.manifest_files(*assets.KNATIVE_CONFIGURATION))])
        self._apply(_services() + [self._ported(one) for one in _documents(_webhook_files())])
        api.create("/api/v1/nodes", node.node_manifest())
        api.merge(f"/api/v1/nodes/{node.NODE}/status", {"status": node.node_status()})
        self.node.start()
        self._queue_proxy.start()
        self._launch()
        processes.wait_until(self._certified, what="certificates of Knative's webhooks", timeout=_START_SECONDS)
        for name, server in self._servers.items():
            if not server.running:
                raise BedError(f"{name} exited with status {server.returncode}:\n{server.tail()}")

    def _apply(self, manifests: list[Object]) -> None:
        def apply(manifest: Object) -> None:
            meta = manifest["metadata"]
            root = _ROOTS[manifest["kind"]].format(namespace=meta.get("namespace", ""))
            self._kubernetes.api.apply(f"{root}/{meta['name']}", manifest)

        with ThreadPoolExecutor(4, "testbed-knative") as pool:
            list(pool.map(apply, manifests))

    def _ported(self, manifest: Object) -> Object:
        """A webhook configuration that names the port of our process; Knative keeps it and adds the rest."""
        for webhook in manifest.get("webhooks", []):
            service = webhook["clientConfig"]["service"]
            service["port"] = self._ports[service["namespace"]]
        return manifest

    def _launch(self) -> None:
        api_port, api_socket = self._kubernetes.url.rpartition(":")[2], self._run.folder / "api.sock"
        hook_socket, hook_port = self._run.folder / "hook.sock", self._ports[EVENTING]
        self._bridge("bridge", f"unix:{api_socket}=tcp:{api_port}", f"tcp:{hook_port}=unix:{hook_socket}")
        to_api = f"tcp:{api_port}=unix:{api_socket}"
        self._begin("serving-webhook", SERVING, WEBHOOK_NAME="webhook", WEBHOOK_PORT=str(self._ports[SERVING]))
        self._begin("serving-autoscaler", SERVING, POD_IP=netns.POD_ADDRESS)
        self._begin_nested("serving-controller", SERVING, (to_api,))
        self._begin_nested(
            "eventing-webhook",
            EVENTING,
            (to_api, f"unix:{hook_socket}=tcp:{hook_port}"),
            WEBHOOK_NAME="eventing-webhook",
            WEBHOOK_PORT=str(hook_port),
        )

    def _bridge(self, name: str, *routes: str) -> None:
        command = [sys.executable, "-m", "tests.testbed.knative.bridge", *routes]
        self._servers[name] = self._run.start(name, command, cwd=assets.REPOSITORY_ROOT)

    def _begin(self, name: str, namespace: str, **env: str) -> None:
        told = self._environment(name, namespace)
        self._servers[name] = self._run.start(name, [self._programs[name]], env=told | env)

    def _begin_nested(self, name: str, namespace: str, routes: tuple[str, ...], **env: str) -> None:
        told = self._environment(name, namespace)
        bridge = [sys.executable, "-m", "tests.testbed.knative.bridge", "--nested", *routes]
        command = ["unshare", "--net", *bridge, "--", str(self._programs[name])]
        self._servers[name] = self._run.start(name, command, env=told | env, cwd=assets.REPOSITORY_ROOT)

    def _environment(self, name: str, namespace: str) -> dict[str, str]:
        return {
            "KUBECONFIG": str(self._kubernetes.kubeconfig),
            "SYSTEM_NAMESPACE": namespace,
            "CONFIG_LOGGING_NAME": "config-logging",
            "CONFIG_OBSERVABILITY_NAME": "config-observability",
            "POD_NAME": name,
            "PROFILING_PORT": str(processes.free_port()),
        }

    def _certified(self) -> bool:
        """Each process writes its certificate into its webhook configurations; empty ones would be refused."""
        roots = [root for kind, root in _ROOTS.items() if kind.endswith("WebhookConfiguration")]
        found = [one for root in roots for one in self._kubernetes.api.items(root)]
        ours = [hook for one in found for hook in one["webhooks"] if hook["name"].endswith("knative.dev")]
        return bool(ours) and all(hook["clientConfig"].get("caBundle") for hook in ours)


def _hurried(config: Object) -> Object:
    """The autoscaler's configuration with the shortest times that Knative admits; the others as shipped."""
    if config["metadata"]["name"] == "config-autoscaler":
        config["data"] |= {
            "stable-window": "6s",
            "panic-window-percentage": "20.0",
            "scale-to-zero-grace-period": "6s",
            "target-burst-capacity": "-1",  # the activator stays in the path: nothing to probe by a cluster's DNS
        }
    return config


def _webhook_files() -> list[Path]:
    return assets.manifest_files(*assets.KNATIVE_WEBHOOKS)


def _documents(files: list[Path]) -> list[Object]:
    return [one for path in files for one in yaml.load_all(path.read_text(), yaml.CSafeLoader) if one]


def _services() -> list[Object]:
    """Names for the webhooks that lead to this machine, and an activator's address that Knative insists on."""
    external = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        for namespace, name in _WEBHOOK_SERVICES.items()
    ]
    ports = [{"name": "http", "port": 8012}, {"name": "http2", "port": 8013}]
    activator = {"name": "activator-service", "namespace": SERVING}
    return [
        *external,
        {"apiVersion": "v1", "kind": "Service", "metadata": activator, "spec": {"ports": ports}},
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": activator,
            "subsets": [{"addresses": [{"ip": netns.POD_ADDRESS}], "ports": ports}],
        },
    ]
