"""Dead-letter queues made by RabbitMQ's own topology operator in a real RabbitMQ."""

from __future__ import annotations

from urllib.parse import quote

from tests.apiserver.conftest import StartOperator
from tests.apiserver.stage import Stage, condition, inline
from tests.apiserver.test_dead_letters import FUNCTION, environment, wait_queue
from tests.testbed.rabbitmq import RabbitMQBed
from tests.testbed.topology import TopologyOperator

RABBIT = "/apis/rabbitmq.com/v1beta1/namespaces"


def by_operator(stage: Stage, secret: str) -> dict[str, str]:
    return environment(
        KN_LAMBDA_DEAD_LETTERS="operator",
        KN_LAMBDA_RABBITMQ_SECRET=secret,
        KN_LAMBDA_DEAD_LETTER_NAMESPACE=stage.namespace,
    )


def test_the_operator_makes_the_queue_with_its_limits_and_the_function_says_so(
    stage: Stage,
    start_operator: StartOperator,
    topology_operator: TopologyOperator,
    vhost_url: str,
    rabbitmq_bed: RabbitMQBed,
) -> None:
    start_operator(
        events=vhost_url, environment=by_operator(stage, topology_operator.connection_secret(stage.namespace))
    )
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    wait_queue(stage, "orders")
    vhost = vhost_url.rpartition("/")[2]
    queue = f"knative-lambda-dlq.{stage.namespace}.orders"
    address = f"/api/queues/{vhost}/{quote(queue, safe='')}"
    stage.wait(lambda: rabbitmq_bed.management("GET", address).get("policy"), what="statistics that name the Policy")
    found = rabbitmq_bed.management("GET", address)
    assert (found["type"], found["policy"]) == ("quorum", "knative-lambda-dlq")
    assert found["effective_policy_definition"]["max-length"] == 50_000
    stage.delete("lambdafunctions", "orders")
    stage.wait_gone("lambdafunctions", "orders")
    assert rabbitmq_bed.management("GET", address)["name"] == queue


def test_what_the_operator_refuses_becomes_a_condition_with_its_words(
    stage: Stage,
    start_operator: StartOperator,
    topology_operator: TopologyOperator,
    vhost_url: str,
    rabbitmq_bed: RabbitMQBed,
) -> None:
    vhost = vhost_url.rpartition("/")[2]
    queue = f"knative-lambda-dlq.{stage.namespace}.orders"
    rabbitmq_bed.management("PUT", f"/api/queues/{vhost}/{queue}", {"durable": True})
    start_operator(
        events=vhost_url, environment=by_operator(stage, topology_operator.connection_secret(stage.namespace))
    )
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    fn = stage.wait_reason("orders", "DLQReady", "DLQRefused", timeout=60)
    assert "inequivalent arg" in condition(fn, "DLQReady")["message"]


def test_a_secret_that_is_missing_is_told_by_the_operators_webhook(
    stage: Stage, start_operator: StartOperator, topology_operator: TopologyOperator, vhost_url: str
) -> None:
    assert topology_operator.log.exists()
    start_operator(events=vhost_url, environment=by_operator(stage, "nowhere"))
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    fn = stage.wait_reason("orders", "DLQReady", "DLQRefused", timeout=60)
    assert "nowhere" in condition(fn, "DLQReady")["message"]
