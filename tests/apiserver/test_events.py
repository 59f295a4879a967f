"""No event is lost, whatever RabbitMQ does; a repeated one keeps its id."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.stage import Stage, inline
from tests.apiserver.tap import EventTap
from tests.testbed.rabbitmq import RabbitMQBed

LIFE = {
    "lambda.function.created", "lambda.build.started", "lambda.build.completed",
    "lambda.service.created", "lambda.status.updated",
}  # fmt: skip


@pytest.fixture
def own_tap(own_rabbitmq: RabbitMQBed) -> Iterator[EventTap]:
    """A listener at a broker that the test may kill."""
    tap = EventTap(own_rabbitmq.amqp_url, queue="tap").open()
    yield tap
    tap.close()


def saw_ready(tap: EventTap, stage: Stage, name: str) -> bool:
    return any(
        event["type"] == "lambda.status.updated" and event["data"]["phase"] == "Ready"
        for event in tap.of(name, stage.namespace)
    )


def assert_whole_life(tap: EventTap, stage: Stage, name: str) -> None:
    """Every type at least once, and one id for what happens once."""
    stage.wait(lambda: saw_ready(tap, stage, name), what=f"the Ready event of {name}", timeout=60)
    ids = tap.ids_by_type(name, stage.namespace)
    assert set(ids) >= LIFE
    for once in LIFE - {"lambda.status.updated"}:
        assert len(ids[once]) == 1, once


def test_events_wait_for_a_broker_that_is_away_at_the_start(
    stage: Stage, start_operator: StartOperator, own_rabbitmq: RabbitMQBed, own_tap: EventTap
) -> None:
    own_rabbitmq.shut_down()
    start_operator(events=own_rabbitmq.amqp_url)
    stage.apply("lambdafunctions", inline("early"))
    fn = stage.wait_ready("early")
    assert fn["status"]["outbox"], "what could not be published stands in the status"
    own_rabbitmq.start_again()
    assert_whole_life(own_tap, stage, "early")
    stage.wait(lambda: not stage.function("early")["status"].get("outbox"), what="an empty outbox", timeout=60)


def test_a_broker_killed_in_the_middle_loses_nothing(
    stage: Stage, start_operator: StartOperator, own_rabbitmq: RabbitMQBed, own_tap: EventTap
) -> None:
    start_operator(events=own_rabbitmq.amqp_url)
    names = [f"many-{number}" for number in range(20)]
    for name in names:
        stage.apply("lambdafunctions", inline(name))
        if name == "many-10":
            own_rabbitmq.kill()
    for name in names:
        stage.wait_ready(name, timeout=60)
    own_rabbitmq.start_again()
    for name in names:
        assert_whole_life(own_tap, stage, name)


def test_a_termination_drains_what_is_under_way(
    stage: Stage, start_operator: StartOperator, vhost_url: str, tap: EventTap
) -> None:
    operator = start_operator(events=vhost_url)
    names = [f"drain-{number}" for number in range(10)]
    for name in names:
        stage.apply("lambdafunctions", inline(name))
    assert operator.terminate() == 0
    start_operator(events=vhost_url)
    for name in names:
        stage.wait_ready(name, timeout=60)
        assert_whole_life(tap, stage, name)
