"""The operations port of a real process: probes, metrics, and a port that cannot be had."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest
from prometheus_client import parser

from tests.apiserver.conftest import StandIns, StartOperator
from tests.apiserver.operator import Operator
from tests.apiserver.proxy import ApiProxy, Trouble
from tests.apiserver.stage import Stage, inline
from tests.testbed.rabbitmq import RabbitMQBed
from tests.testbed.standins import PodOutcome


class Port:
    """A free port on loopback, and what answers there."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.number = int(probe.getsockname()[1])
        self.environment = {"KN_LAMBDA_HTTP_PORT": str(self.number), "KN_LAMBDA_HTTP_HOST": "127.0.0.1"}

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.number}{path}", timeout=5, trust_env=False)

    def ready(self) -> dict[str, Any]:
        answer = self.get("/readyz")
        body: dict[str, Any] = answer.json()
        assert (answer.status_code == 200) is body["ready"]
        return body

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples with that name and these labels."""
        families = parser.text_string_to_metric_families(self.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@pytest.fixture
def port() -> Port:
    return Port()


def test_the_page_tells_the_life_of_a_function(
    stage: Stage, start_operator: StartOperator, vhost_url: str, port: Port
) -> None:
    start_operator(events=vhost_url, environment=port.environment)
    stage.apply("lambdafunctions", inline("hello"))
    stage.wait_ready("hello")
    ours = {"function_name": "hello", "namespace": stage.namespace}
    stage.wait(
        lambda: port.metric("operator_knative_services_managed", namespace=stage.namespace, status="ready") == 1,
        what="a ready service on the page",
    )
    assert port.metric("operator_reconcile_total", **ours, result="success") >= 3
    assert port.metric("operator_reconcile_total", **ours, result="failure") == 0
    assert port.metric("operator_reconcile_duration_seconds_count", **ours) >= 3
    assert port.metric("operator_crd_operations_total", **ours, operation="create") == 1
    assert port.metric("operator_crd_operation_duration_seconds_count", operation="create") == 1
    assert port.metric("operator_build_jobs_total", **ours, result="success") == 1
    assert port.metric("operator_build_duration_seconds_count", **ours) == 1
    assert port.metric("operator_build_jobs_active", **ours) == 0
    assert port.metric("operator_service_creation_duration_seconds_count", **ours) == 1
    assert port.metric("operator_event_processing_total", event_type="lambda.build.completed", result="success") == 1
    assert port.metric("operator_event_queue_depth") == 0
    assert port.metric("operator_memory_usage_bytes") > 20_000_000
    assert port.metric("operator_goroutines") > 10
    asked = {"method": "GET", "endpoint": "/metrics", "status_code": "200"}
    stage.wait(lambda: port.metric("operator_api_requests_total", **asked) > 0, what="scrapes are counted, too")


def test_a_failed_build_and_a_deletion_are_on_the_page(
    stage: Stage, start_operator: StartOperator, standins: StandIns, port: Port
) -> None:
    start_operator(environment=port.environment)
    standins.kubelet.outcomes.set(f"{stage.namespace}/broken-*", PodOutcome.fail("no such module"))
    stage.apply("lambdafunctions", inline("broken"))
    stage.wait_reason("broken", "Ready", "BuildFailed")
    ours = {"function_name": "broken", "namespace": stage.namespace}
    assert port.metric("operator_build_jobs_total", **ours, result="failure") == 1
    stage.delete("lambdafunctions", "broken")
    stage.wait_gone("lambdafunctions", "broken")
    stage.wait(lambda: port.metric("operator_crd_operations_total", **ours, operation="delete") == 1, what="a deletion")
    assert port.metric("operator_knative_services_managed", namespace=stage.namespace) == 0


def test_probes_of_a_leader_and_of_a_standby(stage: Stage, start_operator: StartOperator) -> None:
    leader, standby = Port(), Port()
    elect = ("--leader-elect", "--lease-namespace", stage.namespace)
    first = start_operator(*elect, "--identity", "first", environment=leader.environment)
    second = start_operator(*elect, "--identity", "second", environment=standby.environment, wait=False)
    second.wait_for_log("listening")
    body = stage.wait(lambda: standby.ready() if standby.ready()["ready"] else None, what="a ready standby")
    assert body["role"] == "standby"
    assert body["caches"] == {"synced": True, "filling": [], "notInstalled": []}
    assert (leader.ready()["role"], leader.ready()["ready"]) == ("leader", True)
    for port in (leader, standby):
        assert port.get("/healthz").text == "ok\n"
        assert port.get("/livez").json()["alive"] is True
    stage.apply("lambdafunctions", inline("hello"))
    stage.wait_ready("hello")
    stage.wait(lambda: leader.metric("operator_knative_services_managed") == 1, what="a service that is managed")
    assert standby.metric("operator_knative_services_managed") == 0, "a sum over replicas must be right"
    assert standby.metric("operator_crd_operations_total") == 0
    assert first.terminate() == 0
    stage.wait(lambda: standby.ready()["role"] == "leader", what="the standby leads")
    stage.wait(lambda: standby.metric("operator_knative_services_managed") == 1, what="the new leader tells of it")


def test_rabbitmq_away_is_shown_and_its_events_are_counted_as_waiting(
    stage: Stage, start_operator: StartOperator, own_rabbitmq: RabbitMQBed, port: Port
) -> None:
    own_rabbitmq.shut_down()
    start_operator(events=own_rabbitmq.amqp_url, environment=port.environment)
    stage.apply("lambdafunctions", inline("early"))
    stage.wait_ready("early")
    body = port.ready()
    assert body["ready"] is True
    assert body["rabbitmq"]["connected"] is False
    assert body["rabbitmq"]["problem"]
    assert "guest" not in json.dumps(body)
    assert port.metric("operator_event_queue_depth", event_type="lambda.function.created") == 1
    assert port.metric("operator_event_processing_total", result="failure") > 0
    own_rabbitmq.start_again()
    stage.wait(lambda: port.ready()["rabbitmq"]["connected"], what="RabbitMQ is back", timeout=60)
    stage.wait(lambda: port.metric("operator_event_queue_depth") == 0, what="nothing waits", timeout=60)


def test_the_depth_of_dead_letter_queues_is_told_by_the_leader_while_rabbitmq_is_there(
    stage: Stage, start_operator: StartOperator, own_rabbitmq: RabbitMQBed, port: Port
) -> None:
    url = f"http://127.0.0.1:{port.number}"
    environment = port.environment | {"KN_LAMBDA_DEAD_LETTERS": "amqp", "KN_LAMBDA_DEAD_LETTER_URL": url}
    first = start_operator(events=own_rabbitmq.amqp_url, environment=environment)
    triggers = [{"broker": "default", "filter": {"type": "order.placed"}}]
    stage.apply("lambdafunctions", inline("orders", triggers=triggers))
    stage.wait_reason("orders", "DLQReady", "DLQReady")
    event = {"ce-id": "order-7", "ce-source": "/shop", "ce-type": "order.placed", "ce-specversion": "1.0"}
    event["ce-knativeerrorcode"] = "503"
    for function in ("orders", "orders", "nobody"):
        sink = f"{url}/dead-letters/{stage.namespace}/{function}"
        assert httpx.post(sink, content=b"{}", headers=event, trust_env=False, timeout=10).status_code == 202
    parked = {"function_name": "orders", "namespace": stage.namespace, "reason": "503"}
    stage.wait(lambda: port.metric("operator_dlq_messages_total", **parked) == 2, what="two letters counted")
    assert first.terminate() == 0

    start_operator(events=own_rabbitmq.amqp_url, environment=environment)
    ours = {"function_name": "orders", "namespace": stage.namespace}
    stage.wait(lambda: port.metric("operator_dlq_depth", **ours) == 2, what="two letters on the page of a new leader")
    assert port.metric("operator_dlq_depth", function_name="catch-all", namespace="") == 1
    own_rabbitmq.kill()
    stage.wait(
        lambda: "operator_dlq_depth{" not in port.get("/metrics").text,
        what="no figure that nobody can know",
        timeout=60,
    )


def test_requests_at_the_webhooks_port_are_on_the_page(stage: Stage, start_operator: StartOperator, port: Port) -> None:
    hooks = Port()
    webhooks = {"KN_LAMBDA_WEBHOOK_PORT": str(hooks.number), "KN_LAMBDA_WEBHOOK_HOST": "127.0.0.1"}
    started = start_operator(environment={**port.environment, **webhooks})
    stage.wait(
        lambda: len([line for line in started.log_lines() if line["event"] == "listening"]) == 2, what="two ports"
    )
    answer = httpx.post(f"http://127.0.0.1:{hooks.number}/hook/{'0' * 40}", json={}, timeout=5, trust_env=False)
    assert answer.status_code == 404
    asked = {"method": "POST", "endpoint": "/hook/{digest}", "status_code": "404"}
    stage.wait(lambda: port.metric("operator_api_requests_total", **asked) == 1, what="the delivery is counted")
    assert port.metric("operator_webhook_deliveries_total", outcome="unknown_path") == 1


def test_a_process_that_runs_one_controller_tells_of_no_other(
    stage: Stage, start_operator: StartOperator, port: Port
) -> None:
    start_operator(environment={**port.environment, "KN_LAMBDA_CONTROLLERS": "repositories"})
    stage.apply("lambdafunctions", inline("unseen"))
    stage.wait(lambda: port.metric("operator_goroutines") > 0, what="a page")
    assert port.ready()["ready"] is True
    assert port.get("/livez").status_code == 200
    assert port.metric("operator_crd_operations_total") == 0
    assert "operator_event_queue_depth{" not in port.get("/metrics").text


def test_an_api_server_that_hangs_makes_the_process_unready_and_leaves_it_alive(
    stage: Stage, start_operator: StartOperator, proxy: ApiProxy, port: Port, tmp_path: Any
) -> None:
    start_operator(kubeconfig=proxy.kubeconfig(tmp_path / "k"), environment=port.environment)
    assert port.ready()["ready"] is True
    proxy.trouble(Trouble(lambda call: call.resource == "leases", hang=30))
    stage.wait(lambda: not port.ready()["ready"], what="unready")
    assert port.ready()["apiServer"] == {"answers": False, "problem": "no answer within 0.8 s"}
    assert port.get("/livez").status_code == 200


def test_a_port_that_is_taken_ends_the_process_with_a_clear_word(start_operator: StartOperator, port: Port) -> None:
    with socket.create_server(("127.0.0.1", port.number)):
        operator: Operator = start_operator(environment=port.environment, wait=False)
        assert operator.wait(timeout=20) == 2
    assert f"error: cannot listen on 127.0.0.1 port {port.number}" in operator.log_tail()
    assert "in use" in operator.log_tail()
    assert "Traceback" not in operator.log_tail()
