"""Settings -> the RabbitMQ that Brokers and dead letters name."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda import settings
from knative_lambda.api.meta import Key
from knative_lambda.resources.broker import BrokerSettings
from knative_lambda.settings import SettingsError
from knative_lambda.wiring import adapters, brokers


def test_nobody_makes_brokers_unless_asked() -> None:
    found = settings.load(events="none", rabbitmq_cluster="rabbitmq/rabbit")
    assert adapters.reconcile_settings(found).brokers is None


def test_brokers_are_in_the_cluster_and_the_vhost_that_the_settings_name() -> None:
    found = settings.load(create_brokers=True, rabbitmq_cluster="rabbitmq/rabbit", rabbitmq="amqp://localhost/a%2Fb")
    assert adapters.reconcile_settings(found).brokers == BrokerSettings(Key("rabbitmq", "rabbit"), vhost="a/b")


@pytest.mark.parametrize(("chosen", "namespace"), [({}, "system"), ({"dead_letter_namespace": "mq"}, "mq")])
def test_secret_is_where_dead_letters_look_for_it(chosen: dict[str, Any], namespace: str) -> None:
    found = settings.load(
        create_brokers=True, rabbitmq_secret="connection", events="none", lease_namespace="system", **chosen
    )
    assert brokers.brokers(found) == BrokerSettings(connection_secret=Key(namespace, "connection"))
    assert brokers.topology(found).namespace == namespace
    assert brokers.topology(found).connection_secret == "connection"


@pytest.mark.parametrize("named", [{}, {"rabbitmq_cluster": "a/b", "rabbitmq_secret": "c"}])
def test_brokers_without_one_rabbitmq_are_refused_with_both_keys(named: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="create_brokers is true: give either rabbitmq_cluster or rabbitmq_secret"):
        settings.load(create_brokers=True, events="none", **named)
