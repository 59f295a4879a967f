"""The bed itself: that it starts, does what the other tests take for granted, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import copy
import http.client
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pika
import pytest

from tests.testbed import assets, ksvc, processes
from tests.testbed.apiclient import ApiClient, ApiError
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.gitserver import Failure
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.rabbitmq import RabbitMQBed
from tests.testbed.standins import PodOutcome, ServiceOutcome
from tests.testbed.standins.kubelet import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.testbed.gitserver import GitServer
    from tests.testbed.standins import Knative, Kubelet

JOBS = "/apis/batch/v1/namespaces/{}/jobs"
SERVICES = "/apis/serving.knative.dev/v1/namespaces/{}/services"
EVENTING = "/apis/eventing.knative.dev/v1/namespaces/{}"

KSERVICE: dict[str, Any] = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {
        "name": "my-fn",
        "namespace": "tenant-1",
        "labels": {"networking.knative.dev/visibility": "cluster-local"},
    },
    "spec": {
        "template": {
            "metadata": {
                "labels": {"app": "my-fn"},
                "annotations": {
                    "autoscaling.knative.dev/min-scale": "0",
                    "autoscaling.knative.dev/max-scale": "50",
                    "autoscaling.knative.dev/metric": "concurrency",
                    "autoscaling.knative.dev/target": "10",
                    "autoscaling.knative.dev/window": "60s",
                    "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "30s",
                },
            },
            "spec": {
                "serviceAccountName": "fn-my-fn",
                "automountServiceAccountToken": False,
                "containerConcurrency": 0,
                "timeoutSeconds": 60,
                "imagePullSecrets": [{"name": "pull"}],
                "containers": [
                    {
                        "image": f"ghcr.io/o/r@sha256:{'0' * 64}",
                        "ports": [{"name": "http1", "containerPort": 8080}],
                        "env": [
                            {"name": "A", "value": "b"},
                            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                        ],
                        "envFrom": [{"configMapRef": {"name": "c"}}],
                        "resources": {
                            "requests": {"cpu": "25m", "memory": "64Mi"},
                            "limits": {"memory": "128Mi"},
                        },
                        "readinessProbe": {"httpGet": {"path": "/healthz"}},
                        "securityContext": {
                            "runAsNonRoot": True,
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
        "traffic": [{"latestRevision": True, "percent": 100}],
    },
}


def job(name: str, **spec: Any) -> dict[str, Any]:
    """A Job shaped like our builds: an init container, then kaniko."""
    pod = {
        "restartPolicy": "Never",
        "initContainers": [{"name": "source", "image": "x"}],
        "containers": [{"name": "kaniko", "image": "x"}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, **spec, "template": {"spec": pod}},
    }


def kservice(name: str, image: str = "x") -> dict[str, Any]:
    """The smallest Knative Service."""
    template = {"spec": {"containers": [{"image": image}]}}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"template": template},
    }


def eventually(look: Callable[[], dict[str, str]], kind: str, status: str, timeout: float = 30) -> None:
    """Wait until the conditions that `look` reads show this one."""
    processes.wait_until(lambda: look().get(kind) == status, what=f"{kind}={status}", timeout=timeout)


def conditions(bed: KubernetesBed, path: str) -> dict[str, str]:
    """Condition types and statuses of an object."""
    status = bed.api.get(path).get("status") or {}
    return {one["type"]: one["status"] for one in status.get("conditions") or []}


@pytest.fixture(scope="module")
def bare_bed() -> Iterator[KubernetesBed]:
    """An API server without controllers, to be frozen and restarted."""
    try:
        bed = KubernetesBed.start(controllers=False)
    except Unavailable as gap:
        give_up(gap.reason)
    with bed:
        yield bed


# ---- Kubernetes ----


def test_api_server_is_the_release_that_was_linked_in(kubernetes_bed: KubernetesBed) -> None:
    assert kubernetes_bed.api.get("/version")["gitVersion"] == assets.KUBERNETES_VERSION


@pytest.mark.parametrize(
    "crd",
    [
        "services.serving.knative.dev",
        "brokers.eventing.knative.dev",
        "triggers.eventing.knative.dev",
        "queues.rabbitmq.com",
        "operatorpolicies.rabbitmq.com",
        "rabbitmqclusters.rabbitmq.com",
        "rabbitmqbrokerconfigs.eventing.knative.dev",
        "rabbitmqsources.sources.knative.dev",
        "lambdafunctions.lambda.knative.io",
    ],
)
def test_crd_is_installed(kubernetes_bed: KubernetesBed, crd: str) -> None:
    assert crd in kubernetes_bed.crds


def test_kubeconfig_serves_a_client_with_a_file_only(kubernetes_bed: KubernetesBed, namespace: str) -> None:
    found = subprocess.run(
        ["kubectl", "--kubeconfig", str(kubernetes_bed.kubeconfig), "get", "namespace", namespace, "-o", "name"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert found.stdout.strip() == f"namespace/{namespace}"


def test_what_belongs_to_a_custom_resource_is_collected_with_it(kubernetes_bed: KubernetesBed, namespace: str) -> None:
    service = kubernetes_bed.api.create(SERVICES.format(namespace), kservice("owner"))
    reference = {"apiVersion": service["apiVersion"], "kind": "Service", "name": "owner"}
    owned = {"name": "owned", "ownerReferences": [{**reference, "uid": service["metadata"]["uid"]}]}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    kubernetes_bed.api.create(path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": owned})

    kubernetes_bed.api.delete(f"{SERVICES.format(namespace)}/owner")

    processes.wait_until(lambda: kubernetes_bed.api.find(f"{path}/owned") is None, what="collection", timeout=15)


def test_a_token_of_nobody_is_refused(kubernetes_bed: KubernetesBed) -> None:
    stranger = ApiClient(url=kubernetes_bed.url, token="wrong", ca_file=kubernetes_bed.ca_file)
    with pytest.raises(ApiError) as refused:
        stranger.get("/api/v1/namespaces")
    assert refused.value.status == 401
    stranger.close()


def test_forgotten_history_answers_gone(bare_bed: KubernetesBed) -> None:
    before = bare_bed.api.get("/api/v1/configmaps")["metadata"]["resourceVersion"]
    for number in range(3):
        bare_bed.create_namespace(f"history-{number}")

    bare_bed.forget_history()

    first = next(iter(bare_bed.api.watch("/api/v1/configmaps", seconds=5, resourceVersion=before)))
    assert (first["type"], first["object"]["code"]) == ("ERROR", 410)


def test_paused_api_server_hangs_and_goes_on(bare_bed: KubernetesBed) -> None:
    hasty = ApiClient(url=bare_bed.url, token=bare_bed.token, ca_file=bare_bed.ca_file, timeout=1)
    hasty.get("/version")
    bare_bed.pause()
    try:
        with pytest.raises(TimeoutError):
            hasty.get("/version")
    finally:
        bare_bed.resume()
    assert hasty.get("/version")["major"] == "1"
    hasty.close()


def test_stopped_control_plane_leaves_no_process_and_no_folder() -> None:
    try:
        bed = KubernetesBed.start(controllers=False)
    except Unavailable as gap:
        give_up(gap.reason)
    folder = bed.kubeconfig.parents[1]
    assert len(processes.processes_of(folder)) == 2

    bed.stop()

    assert processes.processes_of(folder) == []
    assert not folder.exists()


# ---- stand-ins ----


def test_job_completes_with_a_digest(kubernetes_bed: KubernetesBed, namespace: str, kubelet: Kubelet) -> None:
    path = JOBS.format(namespace)
    kubernetes_bed.api.create(path, job("build"))

    eventually(lambda: conditions(kubernetes_bed, f"{path}/build"), "Complete", "True")

    (pod,) = kubernetes_bed.api.items(f"/api/v1/namespaces/{namespace}/pods")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == digest_of("build")
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_job_fails_with_its_last_log_lines(kubernetes_bed: KubernetesBed, namespace: str, kubelet: Kubelet) -> None:
    kubelet.outcomes.set(f"{namespace}/build", PodOutcome.fail("line 1\nno such file"))
    path = JOBS.format(namespace)
    kubernetes_bed.api.create(path, job("build"))

    eventually(lambda: conditions(kubernetes_bed, f"{path}/build"), "Failed", "True")

    (pod,) = kubernetes_bed.api.items(f"/api/v1/namespaces/{namespace}/pods")
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (1, "line 1\nno such file")


def test_endless_job_fails_at_its_deadline(kubernetes_bed: KubernetesBed, namespace: str, kubelet: Kubelet) -> None:
    kubelet.outcomes.set(f"{namespace}/build", PodOutcome.never_end())
    path = f"{JOBS.format(namespace)}/build"
    kubernetes_bed.api.create(JOBS.format(namespace), job("build", activeDeadlineSeconds=2))

    eventually(lambda: conditions(kubernetes_bed, path), "Failed", "True")

    failed = [one for one in kubernetes_bed.api.get(path)["status"]["conditions"] if one["type"] == "Failed"]
    assert failed[0]["reason"] == "DeadlineExceeded"


def test_service_gets_ready_in_the_order_of_the_real_controller(
    kubernetes_bed: KubernetesBed, namespace: str, knative: Knative
) -> None:
    path = SERVICES.format(namespace)
    version = kubernetes_bed.api.get(path)["metadata"]["resourceVersion"]
    kubernetes_bed.api.create(path, kservice("fn"))

    seen = []
    for event in kubernetes_bed.api.watch(path, seconds=10, resourceVersion=version):
        status = event["object"].get("status") or {}
        states = {one["type"]: one["status"] for one in status.get("conditions") or []}
        seen.append((states.get("ConfigurationsReady"), states.get("RoutesReady"), states.get("Ready")))
        if states.get("Ready") == "True":
            break

    unknown = "Unknown"
    assert seen == [
        (None, None, None),
        (unknown, unknown, unknown),
        ("True", unknown, unknown),
        ("True", "True", "True"),
    ]
    assert status["url"] == f"http://fn.{namespace}.example.com"
    assert status["address"]["url"] == f"http://fn.{namespace}.svc.cluster.local"
    assert status["latestReadyRevisionName"] == "fn-00001"


def test_failing_second_revision_keeps_the_first_one_ready(
    kubernetes_bed: KubernetesBed, namespace: str, knative: Knative
) -> None:
    knative.outcomes.set(f"{namespace}/fn", ServiceOutcome.ready(), ServiceOutcome.fail("Container failed"))
    path = f"{SERVICES.format(namespace)}/fn"
    kubernetes_bed.api.apply(path, kservice("fn", "one"))
    eventually(lambda: conditions(kubernetes_bed, path), "Ready", "True")

    kubernetes_bed.api.apply(path, kservice("fn", "two"))

    eventually(lambda: conditions(kubernetes_bed, path), "Ready", "False")
    status = kubernetes_bed.api.get(path)["status"]
    assert (status["latestCreatedRevisionName"], status["latestReadyRevisionName"]) == ("fn-00002", "fn-00001")
    assert status["observedGeneration"] == 2


def test_trigger_waits_for_its_broker_and_its_service(
    kubernetes_bed: KubernetesBed, namespace: str, knative: Knative
) -> None:
    reference = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "fn"}
    base, kind = EVENTING.format(namespace), {"apiVersion": "eventing.knative.dev/v1"}
    path = f"{base}/triggers/t"
    spec = {"broker": "b", "subscriber": {"ref": reference, "uri": "/events"}}
    kubernetes_bed.api.create(f"{base}/triggers", {**kind, "kind": "Trigger", "metadata": {"name": "t"}, "spec": spec})
    eventually(lambda: conditions(kubernetes_bed, path), "BrokerReady", "False")

    kubernetes_bed.api.create(f"{base}/brokers", {**kind, "kind": "Broker", "metadata": {"name": "b"}, "spec": {}})
    eventually(lambda: conditions(kubernetes_bed, path), "BrokerReady", "True")
    assert conditions(kubernetes_bed, path)["Ready"] == "False"
    kubernetes_bed.api.create(SERVICES.format(namespace), kservice("fn"))

    eventually(lambda: conditions(kubernetes_bed, path), "Ready", "True")
    assert kubernetes_bed.api.get(path)["status"]["subscriberUri"] == f"http://fn.{namespace}.svc.cluster.local/events"


# ---- processes ----

_OWNER = """
import subprocess, sys, time
from tests.testbed.processes import Run
run = Run.begin("killed")
run.start("sleeper", ["sleep", "600"])
print(run.folder, flush=True)
time.sleep(600)
"""


def owner_of_a_run() -> tuple[subprocess.Popen[str], str]:
    """Another process that owns a run with one process in it; returns it and the run's folder."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True, cwd=assets.REPOSITORY_ROOT
    )
    assert owner.stdout is not None
    return owner, owner.stdout.readline().strip()


def test_killed_owner_is_cleaned_up_by_the_next_start() -> None:
    owner, name = owner_of_a_run()
    with owner:
        folder = processes.root() / name.rpartition("/")[2]
        (left,) = processes.processes_of(folder)
        owner.kill()
    assert processes.processes_of(folder) == [left], "nobody ended it yet"

    with processes.Run.begin("next"):
        assert not left.alive
        assert not folder.exists()


def test_run_of_a_living_owner_is_left_alone() -> None:
    owner, name = owner_of_a_run()
    with owner:
        folder = processes.root() / name.rpartition("/")[2]
        with processes.Run.begin("next"):
            assert len(processes.processes_of(folder)) == 1
        owner.terminate()
    assert not folder.exists(), "SIGTERM ends a run through its owner's exit"


def test_reused_process_id_is_not_taken_for_the_recorded_process() -> None:
    mine = processes.Identity(os.getpid(), processes.start_time(os.getpid()))
    assert mine.alive
    assert not processes.Identity(mine.pid, "another boot:1").alive


def test_process_that_slipped_out_of_its_group_ends_with_the_run(tmp_path: Path) -> None:
    with processes.Run.begin("escape") as run:
        escape = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(600)"
        server = run.start("escaping", [sys.executable, "-c", escape])
        server.wait(10)
        (escaped,) = processes.processes_of(run.folder)
    assert not escaped.alive


# ---- RabbitMQ ----


def publish(url: str, queue: str, body: bytes) -> None:
    """One persistent message into a durable queue."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))


def take(url: str, queue: str) -> bytes | None:
    """The next message of a queue."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        _, _, body = connection.channel().basic_get(queue, auto_ack=True)
        return bytes(body) if body is not None else None


def test_two_brokers_stand_side_by_side_and_a_killed_one_keeps_its_messages(own_rabbitmq: RabbitMQBed) -> None:
    with RabbitMQBed.start() as other:
        publish(own_rabbitmq.amqp_url, "kept", b"before")
        publish(other.amqp_url, "elsewhere", b"other")

        own_rabbitmq.kill()
        assert not processes.port_open(own_rabbitmq.port)
        assert take(other.amqp_url, "elsewhere") == b"other"
        own_rabbitmq.start_again()

        assert take(own_rabbitmq.amqp_url, "kept") == b"before"
        folder = other.log.parent
    assert processes.processes_of(folder) == [], "its epmd ended with it"


def test_virtual_host_is_a_world_of_its_own(rabbitmq_bed: RabbitMQBed, vhost_url: str) -> None:
    publish(vhost_url, "here", b"x")
    assert [one["name"] for one in rabbitmq_bed.management("GET", "/api/queues/%2F")].count("here") == 0
    assert take(vhost_url, "here") == b"x"


# ---- git ----


def git(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One git command that never asks and knows no configuration but ours."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
    named = ["-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(
        ["git", *named], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_push_and_clone_over_http(git_server: GitServer, tmp_path: Path) -> None:
    url = git_server.create_repository("team/pushed")
    assert git("clone", url, "work", cwd=tmp_path).returncode == 0
    work = tmp_path / "work"
    (work / "big").write_bytes(os.urandom(3_000_000))  # more than git sends without chunking
    git("add", ".", cwd=work)
    git("commit", "-m", "first", cwd=work)

    pushed = git("push", "origin", "HEAD:main", cwd=work)
    assert pushed.returncode == 0, pushed.stderr
    git("clone", url, "again", cwd=tmp_path)

    assert (tmp_path / "again" / "big").read_bytes() == (work / "big").read_bytes()
    assert git_server.count("info/refs git-receive-pack", "team/pushed") == 1
    assert git_server.errors == []


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure.UNAVAILABLE, "503"),
        (Failure.FORBID, "403"),
        (Failure.REFUSE, "Authentication failed"),
        (Failure.CUT, ""),
    ],
)
def test_git_server_fails_on_demand(git_server: GitServer, tmp_path: Path, failure: Failure, told: str) -> None:
    git_server.create_repository(f"failing-{failure}")
    git_server.failure = failure
    asked = git("ls-remote", git_server.url(f"failing-{failure}", user="u", password="p"), cwd=tmp_path)
    assert asked.returncode != 0
    assert told in asked.stderr


def test_hanging_git_server_answers_nothing(git_server: GitServer) -> None:
    git_server.create_repository("hanging")
    git_server.failure = Failure.HANG
    connection = http.client.HTTPConnection(git_server.base_url.removeprefix("http://"), timeout=0.5)
    with contextlib.closing(connection):
        connection.request("GET", "/hanging.git/info/refs?service=git-upload-pack")
        with pytest.raises(TimeoutError):
            connection.getresponse()


def test_expired_password_is_refused(git_server: GitServer, tmp_path: Path) -> None:
    git_server.create_repository("private")
    git_server.require("private", user="bot", password="old")
    url = git_server.url("private", user="bot", password="old")
    assert git("ls-remote", url, cwd=tmp_path).returncode == 0

    git_server.require("private", user="bot", password="new")

    assert "Authentication failed" in git("ls-remote", url, cwd=tmp_path).stderr
    assert git("ls-remote", git_server.url("private", user="bot", password="new"), cwd=tmp_path).returncode == 0


# ---- ksvccheck and assets ----


@pytest.fixture
def checked() -> Callable[[dict[str, Any]], list[ksvc.Finding]]:
    """Knative's findings about one Service."""

    def check(manifest: dict[str, Any]) -> list[ksvc.Finding]:
        try:
            return ksvc.check([manifest])
        except Unavailable as gap:
            give_up(gap.reason)

    return check


def test_knative_accepts_a_good_service(checked: Callable[[dict[str, Any]], list[ksvc.Finding]]) -> None:
    assert checked(KSERVICE) == []


def test_knative_refuses_a_field_reference(checked: Callable[[dict[str, Any]], list[ksvc.Finding]]) -> None:
    manifest = copy.deepcopy(KSERVICE)
    reference = {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    manifest["spec"]["template"]["spec"]["containers"][0]["env"].append(reference)

    (finding,) = checked(manifest)

    assert (finding.level, finding.name) == ("error", "my-fn")
    assert "valueFrom.fieldRef" in finding.message


def test_knative_warns_of_a_missing_security_context(
    checked: Callable[[dict[str, Any]], list[ksvc.Finding]],
) -> None:
    manifest = copy.deepcopy(KSERVICE)
    del manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert {finding.level for finding in checked(manifest)} == {"warning"}


def test_unknown_field_of_a_service_is_an_error(
    checked: Callable[[dict[str, Any]], list[ksvc.Finding]],
) -> None:
    manifest = copy.deepcopy(KSERVICE)
    manifest["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    (finding,) = checked(manifest)
    assert 'unknown field "imagee"' in finding.message


@pytest.mark.parametrize(
    ("version", "reason"),
    [((1, 27, 0), "too new"), ((1, 25, 9), "too old"), ((1, 26, 4), "too old"), (None, "no Go on PATH")],
)
def test_unfit_go_is_refused_with_the_reason(version: tuple[int, ...] | None, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        assets.refuse_unfit(version)


def test_free_ports_are_all_different_and_free() -> None:
    ports = {processes.free_port() for _ in range(50)}
    assert len(ports) == 50
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports.pop()))


def test_server_that_exits_is_told_with_its_log() -> None:
    with processes.Run.begin("failing") as run:
        server = run.start("failing", [sys.executable, "-c", "print('no such disk'); raise SystemExit(3)"])
        with pytest.raises(RuntimeError, match=r"(?s)failing exited with status 3.*no such disk"):
            server.await_ready(lambda: False, timeout=10)


_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


def test_hanging_server_is_stopped_after_its_grace() -> None:
    with processes.Run.begin("stubborn") as run:
        server = run.start("stubborn", [sys.executable, "-c", _STUBBORN])
        server.await_ready(lambda: "up" in server.tail(), timeout=10)
        began = time.monotonic()
        server.stop(grace=0.3)
        assert not server.running
        assert time.monotonic() - began >= 0.3
