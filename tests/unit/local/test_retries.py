"""How often and after which pauses: the RabbitMQ Broker's own numbers."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda.local.messaging import retries
from knative_lambda.local.messaging.retries import NO_ANSWER, Policy, is_retried, policy_of
from knative_lambda.resources import trigger
from knative_lambda.resources.trigger import DeadLetterSink
from tests import gen


def pauses(policy: Policy) -> list[float]:
    return [policy.pause(number) for number in range(1, policy.attempts)]


def test_our_own_triggers_are_tried_six_times_in_about_a_minute() -> None:
    fn = gen.lambda_function("orders", gen.with_trigger())
    manifest = trigger.manifest(fn, fn.spec.triggers[0], sink=DeadLetterSink("http://sink"))
    policy = policy_of(manifest["spec"]["delivery"])
    assert policy.attempts == 6
    assert pauses(policy) == [2, 4, 8, 16, 32]


def test_linear_pauses_grow_by_the_same_amount() -> None:
    policy = policy_of({"retry": 4, "backoffPolicy": "linear", "backoffDelay": "PT0.5S"})
    assert pauses(policy) == [0.5, 1.0, 1.5, 2.0]


def test_without_a_delivery_there_is_one_attempt() -> None:
    assert policy_of({}).attempts == 1


def test_retries_without_a_delay_come_soon() -> None:
    assert pauses(policy_of({"retry": 3})) == [0.1, 0.2, 0.4]


def test_no_pause_is_longer_than_an_hour() -> None:
    policy = policy_of({"retry": 100, "backoffDelay": "P1D"})
    assert max(pauses(policy)) == retries.LONGEST_PAUSE


@pytest.mark.parametrize(
    ("text", "seconds"), [("PT1S", 1), ("PT0.25S", 0.25), ("PT1M30S", 90), ("PT2H", 7200), ("P1DT1S", 86401)]
)
def test_durations_are_iso_8601(text: str, seconds: float) -> None:
    assert policy_of({"timeout": text}).timeout == seconds


@pytest.mark.parametrize(
    ("delivery", "told"),
    [
        ({"backoffDelay": "1s"}, r"delivery\.backoffDelay must be an ISO 8601 duration such as PT1S, not '1s'"),
        ({"timeout": "P"}, r"delivery\.timeout"),
        ({"timeout": "PT"}, r"delivery\.timeout"),
        ({"timeout": 30}, r"delivery\.timeout"),
        ({"retry": -1}, r"delivery\.retry"),
        ({"retry": "5"}, r"delivery\.retry"),
        ({"retry": True}, r"delivery\.retry"),
        ({"retry": 1000}, r"from 0 to 100"),
        ({"backoffPolicy": "fast"}, r"exponential or linear, not 'fast'"),
    ],
)
def test_delivery_that_no_api_server_takes_is_refused_with_its_field(delivery: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        policy_of(delivery)


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504, 599, NO_ANSWER])
def test_retried(status: int) -> None:
    assert is_retried(status)


@pytest.mark.parametrize("status", [200, 202, 204, 301, 302, 400, 401, 403, 405, 410, 413, 415, 422])
def test_counted_as_delivered(status: int) -> None:
    assert not is_retried(status)
