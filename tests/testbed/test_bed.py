"""The control plane and the stand-ins do what the other tests take for granted, and leave nothing behind."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.testbed import assets, processes
from tests.testbed.apiclient import ApiClient, ApiError
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.standins import PodOutcome, ServiceOutcome
from tests.testbed.standins.kubelet import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.testbed.standins import Knative, Kubelet

JOBS = "/apis/batch/v1/namespaces/{}/jobs"
SERVICES = "/apis/serving.knative.dev/v1/namespaces/{}/services"
EVENTING = "/apis/eventing.knative.dev/v1/namespaces/{}"


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
