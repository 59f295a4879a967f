"""RabbitMQ's messaging topology operator as a process, with its admission webhooks, beside a real RabbitMQ.

It serves its webhooks on a port that is fixed in its code, so that one machine runs one at a time: the next
one waits for the lock. The API server is told to call them by URL. Called by fixtures and benchmarks.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import fcntl
import ipaddress
import time
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING, Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.testbed import assets, processes
from tests.testbed.apiclient import ApiError
from tests.testbed.errors import BedError, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.apiclient import ApiClient
    from tests.testbed.kubernetes import KubernetesBed
    from tests.testbed.rabbitmq import RabbitMQBed

SECRET_LABEL = "rabbitmq.com/topology-operator"
_WEBHOOK_PORT = 9443
_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
_PLURALS = {
    "MutatingWebhookConfiguration": "mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
}
_SECRET_NAME = "rabbitmq-connection"
_PROBE_REFUSAL = "denied the request"  # what the API server tells of a webhook that said no
_START_SECONDS = 20.0
_LOCK_SECONDS = 120.0


class TopologyOperator:
    """One running operator. Made by `start`, ended by `stop`.

    `apply_to` is what a Policy's `applyTo` must say for queues of the RabbitMQ that it was started for: releases
    before 3.12 do not know `quorum_queues`. `log` is its log file.
    """

    def __init__(self, *, run: processes.Run, kubernetes: KubernetesBed, rabbitmq: RabbitMQBed) -> None:
        self._run = run
        self._kubernetes = kubernetes
        self._rabbitmq = rabbitmq
        self._lock: IO[str] | None = None
        self._server: processes.Server | None = None
        self._configurations: list[str] = []
        self._health = processes.free_port()
        self.apply_to = _apply_to(rabbitmq)

    @classmethod
    def start(cls, *, kubernetes: KubernetesBed, rabbitmq: RabbitMQBed) -> TopologyOperator:
        """Start it and wait until it serves and the API server asks it. Raises Unavailable without its program."""
        program = assets.topology_operator()
        webhooks = assets.manifest_files(assets.TOPOLOGY_WEBHOOKS)
        operator = cls(run=processes.Run.begin("topology"), kubernetes=kubernetes, rabbitmq=rabbitmq)
        try:
            operator._start(program, webhooks)
        except BaseException:
            operator.stop()
            raise
        return operator

    def __enter__(self) -> TopologyOperator:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """Its log file."""
        if self._server is None:
            raise BedError("the topology operator was not started")
        return self._server.log

    def connection_secret(self, namespace: str, name: str = _SECRET_NAME) -> str:
        """Make the Secret that `rabbitmqClusterReference.connectionSecret` names; returns its name."""
        return self.connect(self._kubernetes.api, namespace, name=name, rabbitmq=self._rabbitmq)

    @staticmethod
    def connect(api: ApiClient, namespace: str, *, name: str, rabbitmq: RabbitMQBed) -> str:
        """As `connection_secret`, for another RabbitMQ than the one that the operator was started for."""
        told = {
            "uri": rabbitmq.management_url,
            "username": rabbitmq.user,
            "password": rabbitmq.password,
            "port": str(rabbitmq.port),
        }
        api.apply(
            f"/api/v1/namespaces/{namespace}/secrets/{name}",
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "labels": {SECRET_LABEL: "true"}},
                "stringData": told,
            },
        )
        return name

    def kill(self) -> None:
        """SIGKILL, as a crash: nothing is reconciled, and its webhooks refuse by not answering."""
        if self._server is not None:
            self._server.kill()

    def start_again(self) -> None:
        """Start it once more after `kill`."""
        self._launch(assets.topology_operator())

    def stop(self) -> None:
        """Kill it, take its webhooks out of the API server, and let the next one have the port."""
        self.kill()
        for path in self._configurations:
            self._kubernetes.api.delete(path)
        self._configurations.clear()
        self._run.end()
        if self._lock is not None:
            self._lock.close()

    # ---- inside ----

    def _start(self, program: Path, webhooks: list[Path]) -> None:
        self._lock = _take_port()
        certificate = _write_certificate(self._run.directory("certificates"))
        self._launch(program)
        for manifest in _by_url(webhooks, certificate):
            path = f"{_WEBHOOKS}/{_PLURALS[manifest['kind']]}/{manifest['metadata']['name']}"
            self._kubernetes.api.apply(path, manifest)
            self._configurations.append(path)
        self._await_webhooks()

    def _launch(self, program: Path) -> None:
        self._server = self._run.start(
            "topology-operator",
            [
                program,
                f"--health-probe-bind-address=127.0.0.1:{self._health}",
                f"--webhook-cert-path={self._run.directory('certificates')}",
            ],
            env={"OPERATOR_NAMESPACE": "rabbitmq-system", "KUBECONFIG": str(self._kubernetes.kubeconfig)},
        )
        self._server.await_ready(self._serves, timeout=_START_SECONDS)

    def _serves(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/readyz", timeout=5) as answer:
                return bool(answer.status == 200) and processes.port_open(_WEBHOOK_PORT)
        return False

    def _await_webhooks(self) -> None:
        """The API server learns of webhooks a moment later: a dry run that they must refuse tells when."""
        answers = [""]

        def asked() -> bool:
            answers.append(self._refusal())
            return _PROBE_REFUSAL in answers[-1]

        try:
            processes.wait_until(asked, what="webhooks of the topology operator", timeout=_START_SECONDS)
        except BedError as late:
            raise BedError(f"{late}; last answer: {answers[-1] or 'accepted'}") from None

    def _refusal(self) -> str:
        reference = {"connectionSecret": {"name": "nowhere"}}
        probe = {
            "apiVersion": "rabbitmq.com/v1beta1",
            "kind": "Queue",
            "metadata": {"name": "probe"},
            "spec": {"name": "probe", "rabbitmqClusterReference": reference},
        }
        path = "/apis/rabbitmq.com/v1beta1/namespaces/default/queues"
        try:
            self._kubernetes.api.request("POST", path, body=probe, query={"dryRun": "All"})
        except ApiError as refused:
            return str(refused)
        return ""


def _apply_to(rabbitmq: RabbitMQBed) -> str:
    major, minor = map(int, rabbitmq.management("GET", "/api/overview")["rabbitmq_version"].split(".")[:2])
    return "quorum_queues" if (major, minor) >= (3, 12) else "queues"


def _take_port() -> IO[str]:
    """The lock on the one port; released by closing the file or by the end of this process."""
    lock = (processes.root() / "topology-operator.lock").open("w")
    began, told = time.monotonic(), False
    while not _try_lock(lock):
        if time.monotonic() - began > _LOCK_SECONDS:
            lock.close()
            raise BedError(
                f"another test run of this user holds port {_WEBHOOK_PORT}, which is fixed in the topology operator; "
                f"waited {_LOCK_SECONDS:.0f} s"
            )
        if not told:
            assets.say(f"another test run uses the topology operator's port {_WEBHOOK_PORT}; waiting for it")
            told = True
        time.sleep(0.5)
    if processes.port_open(_WEBHOOK_PORT):
        lock.close()
        raise Unavailable(f"port {_WEBHOOK_PORT}, which is fixed in the topology operator, is taken by another program")
    return lock


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _by_url(files: list[Path], certificate: bytes) -> list[dict[str, Any]]:
    """The operator's own webhook configurations, calling a URL of this machine instead of a Service."""
    manifests = [one for path in files for one in yaml.load_all(path.read_text(), yaml.CSafeLoader) if one]
    bundle = base64.b64encode(certificate).decode()
    for manifest in manifests:
        manifest["metadata"]["name"] = "topology-" + manifest["metadata"]["name"]
        for webhook in manifest["webhooks"]:
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"https://127.0.0.1:{_WEBHOOK_PORT}{path}", "caBundle": bundle}
    return manifests


def _write_certificate(folder: Path) -> bytes:
    """A self-signed certificate for 127.0.0.1 with its key, where the operator looks for them; returns it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "topology-operator of the test bed")])
    today = datetime.datetime.now(datetime.UTC)
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(hours=1))
        .not_valid_after(today + datetime.timedelta(days=2))
        .add_extension(loopback, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    written = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.crt").write_bytes(written)
    (folder / "tls.key").touch(mode=0o600)
    (folder / "tls.key").write_bytes(secret)
    return written
