"""The RabbitMQ as its operators know it: what our Brokers, and the objects for dead letters, say of it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from knative_lambda.api.meta import Key
from knative_lambda.resources.broker import BrokerSettings
from knative_lambda.resources.dead_letter import Topology
from knative_lambda.settings import Settings


def brokers(settings: Settings) -> BrokerSettings | None:
    """How Brokers are made; None where nobody asks for them."""
    if not settings.create_brokers:
        return None
    secret = settings.rabbitmq_secret
    return BrokerSettings(
        cluster=_cluster(settings),
        connection_secret=Key(_namespace(settings), secret) if secret else None,
        vhost=_vhost(settings),
    )


def topology(settings: Settings) -> Topology:
    """Where the dead letters' objects are, and which RabbitMQ they name."""
    return Topology(
        namespace=_namespace(settings),
        vhost=_vhost(settings),
        cluster=_cluster(settings),
        connection_secret=settings.rabbitmq_secret or "",
    )


def _namespace(settings: Settings) -> str:
    return settings.dead_letter_namespace or settings.lease_namespace


def _cluster(settings: Settings) -> Key | None:
    namespace, _, name = (settings.rabbitmq_cluster or "").partition("/")
    return Key(namespace, name) if name else None


def _vhost(settings: Settings) -> str:
    """The one that we use ourselves."""
    url = settings.rabbitmq.get_secret_value() if settings.rabbitmq else ""
    return unquote(urlsplit(url).path.removeprefix("/")) or "/"
