"""kn-lambda dlq without a RabbitMQ: wrong usage, and the way of a letter to its target."""

from __future__ import annotations

import time
from typing import Any

import pytest

from knative_lambda import settings
from knative_lambda.cli import letters
from knative_lambda.cli.failures import Fault
from knative_lambda.events.mailbox import Parked
from knative_lambda.settings import SettingsError
from knative_lambda.wiring import dead_letters
from tests.unit.cli.terminal import Terminal

LETTER = Parked(b"{}", "application/json", {"ce-id": "1", "knative-lambda-function": "orders"})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list", "shop/orders"), "no RabbitMQ is named"),
        (("list", "orders"), "write NAMESPACE/FUNCTION"),
        (("show", "shop/orders", "--rabbitmq", "http://me:hunter2@localhost/"), "not an AMQP address"),
        (("show", "shop/orders", "--rabbitmq", "amqp://me:hunter2@127.0.0.1:1/"), "RabbitMQ is away"),
        (("replay", "shop/orders", "--to", "file:///etc/passwd"), "no http:// or https:// address"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line_without_secrets(
    terminal: Terminal, arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KN_LAMBDA_RABBITMQ", raising=False)
    ended = terminal.run("dlq", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert "hunter2" not in ended.err


@pytest.mark.parametrize("place", ["orders", "/orders", "shop/", "a/b/c", ""])
def test_place_must_name_a_function(place: str) -> None:
    with pytest.raises(Fault, match="NAMESPACE/FUNCTION"):
        letters.queue_of(place)


def test_catch_all_and_functions_have_their_queues() -> None:
    assert letters.queue_of("catch-all") == "knative-lambda-dlq"
    assert letters.queue_of("shop/orders") == "knative-lambda-dlq.shop.orders"


def test_target_that_is_away_accepts_nothing_and_says_why() -> None:
    target = letters.Target.parse("http://127.0.0.1:1/", timeout=1)
    assert not target.accepts(LETTER)
    assert "refused" in target.problem
    target.close()


def test_replay_is_not_faster_than_asked() -> None:
    advanced: list[int] = []
    deliver = letters.paced(lambda _letter: True, rate=50, advance=lambda: advanced.append(1))
    began = time.monotonic()
    assert all(deliver(LETTER) for _ in range(6))
    assert time.monotonic() - began >= 0.1
    assert len(advanced) == 6


def test_body_that_is_no_text_is_shown_as_base64_and_nothing_talks_to_the_terminal() -> None:
    assert letters.told(Parked(b"\xff\x00", "image/png", {}))["body_base64"] == "/wA="
    shown = letters.lines(letters.told(Parked(b"\x1b[2Jhi", "text/plain", {"ce-id": "\x1b[0m"})))
    assert "\x1b" not in shown


# ---- the controller's settings for them ----


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"dead_letters": "amqp", "events": "none"}, "name the RabbitMQ"),
        ({"dead_letters": "amqp", "rabbitmq": "amqp://localhost/", "http_port": 0}, "give http_port"),
        ({"dead_letters": "operator", "rabbitmq": "amqp://localhost/"}, "either rabbitmq_cluster or"),
        (
            {
                "dead_letters": "operator",
                "rabbitmq": "amqp://localhost/",
                "rabbitmq_cluster": "a/b",
                "rabbitmq_secret": "c",
            },
            "either rabbitmq_cluster or",
        ),
        ({"create_brokers": True, "events": "none"}, "create_brokers is true: give either rabbitmq_cluster or"),
        (
            {"create_brokers": True, "events": "none", "rabbitmq_cluster": "a/b", "rabbitmq_secret": "c"},
            "create_brokers is true: give either rabbitmq_cluster or",
        ),
    ],
)
def test_settings_that_name_no_rabbitmq_or_two_are_refused(chosen: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        settings.load(**chosen)


def test_sink_is_the_service_of_the_release_unless_an_address_is_given() -> None:
    found = settings.load(dead_letters="amqp", rabbitmq="amqp://localhost/", lease_name="kl", lease_namespace="system")
    sink = dead_letters.sink(found)
    assert sink is not None
    assert sink.url == "http://kl.system.svc.cluster.local:8080"
    given = settings.load(dead_letters="amqp", rabbitmq="amqp://localhost/", dead_letter_url="http://10.0.0.1:8080/")
    assert dead_letters.sink(given) == type(sink)("http://10.0.0.1:8080")
    assert dead_letters.sink(settings.load(events="none")) is None
