"""A real Kubernetes API: etcd, kube-apiserver and kube-controller-manager as plain processes.

Throw-away: etcd does not sync to disk, and everything is ended with SIGKILL. No node exists and no scheduler
runs: Pods are made and stay Pending until a stand-in (`standins`) plays the kubelet.
Called by fixtures, benchmarks and the command line of the bed.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import yaml

from tests.testbed import assets, processes
from tests.testbed.apiclient import ApiClient, ApiError
from tests.testbed.errors import BedError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

_CONTROLLERS = (
    "deployment-controller,replicaset-controller,job-controller,cronjob-controller,ttl-after-finished-controller,"
    "garbage-collector-controller,namespace-controller,serviceaccount-controller,serviceaccount-token-controller,"
    "root-ca-certificate-publisher-controller,endpointslice-controller,disruption-controller,pod-garbage-collector-controller"
)
_START_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class _Ports:
    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int


class KubernetesBed:
    """One running control plane. Made by `start`, ended by `stop` (or with its run).

    `url`, `token` (a cluster admin) and `ca_file` are what a client needs; `kubeconfig` is a file with the
    same for kubectl; `api` is a plain client; `crds` names the definitions installed through this bed.
    """

    def __init__(self, *, run: processes.Run, programs: assets.Servers, more_controllers: Sequence[str] = ()) -> None:
        self._run = run
        self._programs = programs
        self._controllers = ",".join([_CONTROLLERS, *more_controllers])
        self._ports = _Ports(*(processes.free_port() for _ in range(4)))
        self._folder = run.directory("kubernetes")
        self._etcd: processes.Server | None = None
        self._apiserver: processes.Server | None = None
        self._controller_manager: processes.Server | None = None
        self.crds: list[str] = []
        self._definitions: dict[str, dict[str, Any]] = {}
        self.token = secrets.token_hex(16)
        self.url = f"https://127.0.0.1:{self._ports.apiserver}"
        self.etcd_url = f"http://127.0.0.1:{self._ports.etcd}"
        self.ca_file = self._folder / "certificates" / "apiserver.crt"
        self.kubeconfig = self._folder / "kubeconfig"

    @classmethod
    def start(
        cls,
        *,
        run: processes.Run | None = None,
        crds: Iterable[Path] = (),
        controllers: bool = True,
        more_controllers: Sequence[str] = (),
    ) -> KubernetesBed:
        """Start all three and wait until they serve. Raises Unavailable when this machine has no programs.

        `crds` are installed before the controller manager starts: its garbage collector learns kinds that
        come later only within 30 s. `controllers=False` leaves the controller manager out, `more_controllers`
        run in it besides the usual ones.
        """
        programs = assets.servers()
        bed = cls(run=run or processes.Run.begin("kubernetes"), programs=programs, more_controllers=more_controllers)
        try:
            bed._start(list(crds), controllers=controllers)
        except BaseException:
            bed.stop()
            raise
        return bed

    def __enter__(self) -> KubernetesBed:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def api(self) -> ApiClient:
        """A client with the admin token; made anew after each start, for certificates are the bed's own."""
        return self._api

    @property
    def logs(self) -> list[Path]:
        """The log files of the servers."""
        return [server.log for server in self._servers()]

    def stop(self) -> None:
        """Kill everything and remove the folder: the API server first, which hangs without its etcd."""
        for server in self._servers():
            server.kill()
        if hasattr(self, "_api"):
            self._api.close()
        self._run.end()

    # ---- trouble ----

    def pause(self) -> None:
        """Freeze the API server: connections stay open and are accepted, nothing is answered."""
        self._required(self._apiserver).freeze()

    def resume(self) -> None:
        """Let a frozen API server go on."""
        self._required(self._apiserver).thaw()

    def stop_apiserver(self) -> None:
        """Kill the API server: every connection is cut, new ones are refused."""
        self._required(self._apiserver).kill()

    def start_apiserver(self) -> float:
        """Start the API server again on the same port and data; returns seconds until it was ready."""
        self._apiserver = self._launch_apiserver()
        seconds = self._await_apiserver()
        self._await_storage()
        return seconds

    def restart_apiserver(self) -> float:
        """Kill and start again; every watch is cut, the watch cache is empty. Returns seconds."""
        self.stop_apiserver()
        return self.start_apiserver()

    def forget_history(self) -> int:
        """Compact etcd and restart the API server, so that resuming an old watch is answered with 410 Gone.

        Compaction alone is not enough: the API server's watch cache remembers recent events by itself.
        Returns the revision before which nothing is known.
        """
        header = self._etcd_call("range", {"key": base64.b64encode(b"/registry/").decode(), "limit": 1})["header"]
        self._etcd_call("compaction", {"revision": header["revision"], "physical": True})
        self.restart_apiserver()
        return int(header["revision"])

    def restart_controller_manager(self) -> None:
        """Start it anew, for example to let its garbage collector know CRDs at once that came after it."""
        self._required(self._controller_manager).kill()
        self._controller_manager = self._launch_controller_manager()
        self._await_controller_manager()

    # ---- objects ----

    def apply_crds(self, files: Iterable[Path]) -> list[str]:
        """Create or update CustomResourceDefinitions, wait until they are served, return their names."""
        manifests = [one for path in files for one in _documents(path) if one["kind"] == "CustomResourceDefinition"]
        with ThreadPoolExecutor(4, "testbed-crds") as pool:
            names = list(pool.map(self._put_crd, manifests))
        self.crds += [name for name in names if name not in self.crds]
        self._definitions |= {str(one["metadata"]["name"]): one for one in manifests}
        processes.wait_until(lambda: self._established(names), what=f"CRDs {names}", timeout=60)
        self._await_storage()
        return names

    def create_namespace(self, name: str, labels: dict[str, str] | None = None) -> str:
        """Create a namespace and wait for its default service account, without which no Pod is made."""
        self._api.create(
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}},
        )
        if self._controller_manager is not None:
            self._await_service_account(name)
        return name

    def delete_namespace(self, name: str, *, wait: float = 0) -> None:
        """Delete a namespace with all that is in it; with `wait`, until it is gone or so many seconds passed."""
        self._api.delete(f"/api/v1/namespaces/{name}")
        if wait:
            processes.wait_until(
                lambda: self._api.find(f"/api/v1/namespaces/{name}") is None, what=f"deletion of {name}", timeout=wait
            )

    # ---- inside ----

    def _start(self, crds: Sequence[Path], *, controllers: bool) -> None:
        _write_service_account_key(self._folder / "service-account.key", self._run)
        (self._folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        self._etcd = self._launch_etcd()
        self._apiserver = self._launch_apiserver()
        self._await_apiserver(first=True)
        self.kubeconfig.write_text(json.dumps(self._kubeconfig(), indent=1))
        self.kubeconfig.chmod(0o600)
        if crds:
            self.apply_crds(crds)
        if controllers:
            self._controller_manager = self._launch_controller_manager()
            self._await_controller_manager()

    def _servers(self) -> list[processes.Server]:
        ordered = (self._controller_manager, self._apiserver, self._etcd)
        return [server for server in ordered if server is not None]

    @staticmethod
    def _required(server: processes.Server | None) -> processes.Server:
        if server is None:
            raise BedError("this bed runs without that server")
        return server

    def _launch_etcd(self) -> processes.Server:
        peer = f"http://127.0.0.1:{self._ports.etcd_peer}"
        return self._run.start(
            "etcd",
            [
                self._programs.etcd,
                "--name=bed",
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls={self.etcd_url}",
                f"--advertise-client-urls={self.etcd_url}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=bed={peer}",
                "--unsafe-no-fsync",
                f"--quota-backend-bytes={4 << 30}",
                "--log-level=warn",
            ],
        )

    def _launch_apiserver(self) -> processes.Server:
        key = self._folder / "service-account.key"
        return self._run.start(
            "kube-apiserver",
            [
                self._programs.apiserver,
                f"--etcd-servers={self.etcd_url}",
                f"--secure-port={self._ports.apiserver}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--cert-dir={self.ca_file.parent}",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--allow-privileged=true",
                "--shutdown-delay-duration=0s",
            ],
        )

    def _launch_controller_manager(self) -> processes.Server:
        return self._run.start(
            "kube-controller-manager",
            [
                self._programs.controller_manager,
                f"--kubeconfig={self.kubeconfig}",
                f"--authentication-kubeconfig={self.kubeconfig}",
                f"--authorization-kubeconfig={self.kubeconfig}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._ports.controller_manager}",
                f"--cert-dir={self._folder / 'controller-manager'}",
                "--leader-elect=false",
                f"--service-account-private-key-file={self._folder / 'service-account.key'}",
                f"--root-ca-file={self.ca_file}",
                f"--controllers={self._controllers}",
                "--kube-api-qps=2000",  # its default of 20 requests/s would be what every benchmark measures
                "--kube-api-burst=4000",
                "--concurrent-job-syncs=10",
            ],
        )

    def _await_apiserver(self, *, first: bool = False) -> float:
        server, began = self._required(self._apiserver), time.monotonic()
        if first:
            server.await_ready(self.ca_file.exists, timeout=_START_SECONDS)
            server.await_ready(lambda: processes.port_open(self._ports.apiserver), timeout=_START_SECONDS)
            self._api = ApiClient(url=self.url, token=self.token, ca_file=self.ca_file)
        server.await_ready(self._apiserver_ready, timeout=_START_SECONDS)
        return time.monotonic() - began

    def _apiserver_ready(self) -> bool:
        try:
            return self._api.raw("GET", "/readyz") == b"ok" and self._api.find("/api/v1/namespaces/default") is not None
        except (ApiError, OSError):
            return False

    def _await_controller_manager(self) -> None:
        server = self._required(self._controller_manager)
        server.await_ready(lambda: processes.port_open(self._ports.controller_manager), timeout=_START_SECONDS)
        self._await_service_account("default")

    def _await_service_account(self, namespace: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        processes.wait_until(
            lambda: self._api.find(path) is not None, what=f"service account of {namespace}", timeout=30, pause=0.02
        )

    def _put_crd(self, manifest: dict[str, Any]) -> str:
        name = str(manifest["metadata"]["name"])
        try:
            self._api.create(CRDS, manifest)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            self._api.apply(f"{CRDS}/{name}", manifest)
        return name

    def _established(self, names: Sequence[str]) -> bool:
        served = {
            crd["metadata"]["name"]
            for crd in self._api.items(CRDS)
            for condition in crd.get("status", {}).get("conditions") or []
            if condition["type"] == "Established" and condition["status"] == "True"
        }
        return served.issuperset(names)

    def _await_storage(self) -> None:
        """Also after a restart, every kind of a CRD is refused for a moment."""
        processes.wait_until(
            lambda: all(map(self._is_listed, self._definitions.values())), what="storage of the CRDs", timeout=60
        )

    def _is_listed(self, crd: dict[str, Any]) -> bool:
        """A kind is answered with 404 until it is served, and with 429 until its storage is initialised."""
        spec = crd["spec"]
        version = next(one["name"] for one in spec["versions"] if one["served"])
        try:
            self._api.get(f"/apis/{spec['group']}/{version}/{spec['names']['plural']}", limit=1)
        except ApiError as error:
            if error.status not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.NOT_FOUND):
                raise
            return False
        return True

    def _etcd_call(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # etcd's JSON gateway, on loopback
            f"{self.etcd_url}/v3/kv/{call}", data=json.dumps(body).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise BedError(f"etcd {call}: {error.code} {error.read()[:300]!r}") from None
        return answer

    def _kubeconfig(self) -> dict[str, Any]:
        cluster = {
            "server": self.url,
            "certificate-authority-data": base64.b64encode(self.ca_file.read_bytes()).decode(),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "testbed",
            "clusters": [{"name": "testbed", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "admin"}}],
        }


def _documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.load_all(path.read_text(), yaml.CSafeLoader) if one]


def _write_service_account_key(path: Path, run: processes.Run) -> None:
    """A fresh P-256 key in the form that kube-apiserver reads both its halves from."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        _write_key_by_openssl(path, run)
        return
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )


def _write_key_by_openssl(path: Path, run: processes.Run) -> None:
    if shutil.which("openssl") is None:
        raise Unavailable("neither the Python package cryptography nor openssl is here to make a key with")
    run.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])
