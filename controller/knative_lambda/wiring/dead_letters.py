"""Dead letters: who keeps them, who makes their queues, and the route that takes them."""

from __future__ import annotations

from starlette.routing import BaseRoute

from knative_lambda.cluster.base import Cluster
from knative_lambda.events.dead_letters import DeadLetterQueues, DeadLetters
from knative_lambda.events.rabbitmq import Options
from knative_lambda.events.rabbitmq_letters import RabbitMQLetters
from knative_lambda.kit.clock import Clock
from knative_lambda.reconcile.topology import TopologyQueues
from knative_lambda.resources.trigger import DeadLetterSink
from knative_lambda.settings import Settings
from knative_lambda.web import dead_letters
from knative_lambda.web.metrics import Metrics
from knative_lambda.wiring.brokers import topology


def letters(settings: Settings, *, clock: Clock) -> RabbitMQLetters | None:
    """Not connected yet; None where dead letters are switched off."""
    if settings.dead_letters == "none" or settings.rabbitmq is None:
        return None
    options = Options(url=settings.rabbitmq.get_secret_value())
    return RabbitMQLetters(options, clock=clock, declares=settings.dead_letters == "amqp")


def queues(
    settings: Settings, parked: RabbitMQLetters | None, cluster: Cluster, *, clock: Clock
) -> DeadLetterQueues | None:
    """Who makes the queues."""
    if settings.dead_letters == "operator":
        return TopologyQueues(cluster, topology(settings), clock=clock)
    return parked


def routes(parked: DeadLetters | None, *, metrics: Metrics, clock: Clock) -> list[BaseRoute]:
    """The sink, if there is one."""
    return [] if parked is None else [dead_letters.route(parked, clock=clock, counted=metrics.dead_letter)]


def sink(settings: Settings) -> DeadLetterSink | None:
    """What Triggers are told; by default the chart's Service, which has the name of the Lease."""
    if settings.dead_letters == "none":
        return None
    service = f"http://{settings.lease_name}.{settings.lease_namespace}.svc.cluster.local:{settings.http_port}"
    return DeadLetterSink(
        (settings.dead_letter_url or service).rstrip("/"),
        retries=settings.dead_letter_retries,
        backoff_seconds=settings.dead_letter_backoff,
    )
