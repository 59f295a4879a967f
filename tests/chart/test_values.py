"""Values that the chart refuses, with a message that names the key."""

from __future__ import annotations

import helm_python
import pytest

from tests.chart.engine import Values, render

NO_CLUSTER: Values = {
    "rabbitmq": {"existingSecret": {"name": "a"}}, "deadLetters": {"enabled": True, "declare": "operator"},
}  # fmt: skip
REFUSED: dict[str, tuple[Values, str]] = {
    "a key that is misspelt": ({"replcas": 2}, "replcas"),
    "a nested key that is misspelt": ({"rabbitmq": {"secret": "x"}}, "/rabbitmq'.*secret"),
    "too many replicas": ({"replicas": 4}, "/replicas"),
    "no replicas": ({"replicas": 0}, "/replicas"),
    "replicas in words": ({"replicas": "two"}, "/replicas"),
    "a namespace that cannot be": ({"watchNamespaces": ["Shop"]}, "/watchNamespaces/0"),
    "a namespace twice": ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
    "another protocol than AMQP": ({"rabbitmq": {"url": "http://rabbit"}}, "/rabbitmq/url"),
    "a digest that is none": ({"image": {"digest": "abc"}}, "/image/digest"),
    "a repository without a url": ({"repositories": [{"name": "a", "spec": {}}]}, "/repositories/0/spec"),
    "a registry with a scheme": ({"build": {"registry": "https://x"}}, "/build/registry"),
    "an unknown level": ({"log": {"level": "loud"}}, "/log/level"),
    "a body limit above GitHub's": ({"webhooks": {"bodyLimit": 99999999}}, "/webhooks/bodyLimit"),
    "too little time to leave": ({"terminationGracePeriodSeconds": 1}, "/terminationGracePeriodSeconds"),
    "an amount that is none": ({"resources": {"limits": {"memory": "much"}}}, "/resources/limits/memory"),
    "both a secret and a url": (
        {"rabbitmq": {"url": "amqp://a", "existingSecret": {"name": "b"}}}, r"rabbitmq\.url: name either",
    ),
    "dead letters without RabbitMQ": ({"deadLetters": {"enabled": True}}, r"deadLetters\.enabled: dead letters are"),
    "dead letters made by nobody known": (
        {"deadLetters": {"enabled": True, "declare": "chart"}}, "/deadLetters/declare",
    ),
    "an operator that knows no RabbitMQ": (NO_CLUSTER, r"deadLetters\.declare: RabbitMQ's topology operator must be"),
    "a namespace that cannot be, for dead letters": ({"deadLetters": {"namespace": "A"}}, "/deadLetters/namespace"),
    "two ways to the same RabbitMQ": (
        {"rabbitmq": {"cluster": {"namespace": "a", "name": "b"}, "topologySecret": "c"}},
        r"rabbitmq\.topologySecret: name either",
    ),
    "a cluster without its namespace": (
        {"rabbitmq": {"cluster": {"name": "b"}}}, r"rabbitmq\.cluster: give both namespace and name",
    ),
    "a cluster in one word": ({"rabbitmq": {"cluster": "a/b"}}, "/rabbitmq/cluster"),
    "a secret that cannot be": ({"rabbitmq": {"topologySecret": "A_b"}}, "/rabbitmq/topologySecret"),
    "dispatchers in words": ({"networkPolicy": {"deadLettersFrom": "anybody"}}, "/networkPolicy/deadLettersFrom"),
    "dead letters among the settings": (
        {"settings": {"dead_letters": "amqp"}}, r"settings\.dead_letters: the chart sets",
    ),
    "Brokers on no RabbitMQ": (
        {"rabbitmq": {"existingSecret": {"name": "a"}}, "brokers": {"create": True}},
        r"brokers\.create: Knative must be told on which RabbitMQ",
    ),
    "a RabbitMQ behind a closed port": (
        {"rabbitmq": {"url": "amqp://u:p@[::1]:5699/x"}, "networkPolicy": {"enabled": True}},
        r"networkPolicy\.egressPorts: add 5699",
    ),
    "a RabbitMQ behind a closed usual port": (
        {"rabbitmq": {"url": "amqps://rabbit"}, "networkPolicy": {"enabled": True, "egressPorts": [443]}},
        r"networkPolicy\.egressPorts: add 5671",
    ),
    "Brokers in words": ({"brokers": {"create": "yes"}}, "/brokers/create"),
    "Brokers among the settings": ({"settings": {"create_brokers": True}}, r"settings\.create_brokers: the chart sets"),
    "nobody's account": ({"serviceAccount": {"create": False}}, r"serviceAccount\.name: name the"),
    "a repository that nobody would follow": (
        {"watchNamespaces": ["a"], "repositories": [{"name": "r", "namespace": "b", "spec": {"url": "https://x"}}]},
        "repositories: r is in namespace b, which watchNamespaces does not name",
    ),
    "a password among the settings": ({"settings": {"rabbitmq": "amqp://a"}}, r"settings\.rabbitmq: the chart sets"),
    "a setting that another value sets": ({"settings": {"namespaces": ["a"]}}, r"settings\.namespaces: the chart"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_values_are_refused_by_name(values: Values, words: str) -> None:
    with pytest.raises(helm_python.HelmError, match=words):
        render(values)
