"""The adapters that settings ask for, one function per port."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from knative_lambda.api.meta import Kind
from knative_lambda.cluster.kube import KubeCluster
from knative_lambda.cluster.transport import Tuning
from knative_lambda.events.base import Bus
from knative_lambda.events.none import NoBus
from knative_lambda.events.rabbitmq import Options, RabbitMQBus
from knative_lambda.gitsync.checkout import GitCheckout
from knative_lambda.kit.clock import Clock
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.resources.images import Registries
from knative_lambda.resources.kaniko_job import BuildSettings
from knative_lambda.runtimes import catalog
from knative_lambda.settings import Settings, SettingsError
from knative_lambda.sources.base import Sources
from knative_lambda.sources.dial import DialPolicy
from knative_lambda.sources.resolver import SourceResolver
from knative_lambda.wiring import brokers, dead_letters


async def cluster(settings: Settings, *, clock: Clock, before_write: Callable[[Kind], None]) -> KubeCluster:
    """The API server of the kubeconfig, or of the Pod that we run in."""
    return await KubeCluster.connect(
        clock=clock,
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        tuning=Tuning(qps=settings.qps or math.inf),
        before_write=before_write,
    )


def bus(settings: Settings, *, clock: Clock) -> Bus:
    """RabbitMQ, or nobody. Raises SettingsError for an address that is none."""
    if settings.rabbitmq is None or settings.events == "none":
        return NoBus()
    options = Options(url=settings.rabbitmq.get_secret_value(), exchange=settings.exchange)
    try:
        return RabbitMQBus(options, clock=clock)
    except ValueError as error:
        raise SettingsError(f"rabbitmq: {error}") from error


def reconcile_settings(settings: Settings) -> ReconcileSettings:
    """What a platform engineer decided for every function."""
    registries = Registries(
        push=settings.push_registry or settings.registry,
        pull=settings.registry,
        insecure=settings.insecure_registries,
    )
    return ReconcileSettings(
        build=BuildSettings(
            registries=registries,
            builder_image=settings.builder_image,
            builder_version=catalog.builder_version(),
            kaniko_image=settings.kaniko_image,
            namespace=settings.build_namespace,
            backoff_limit=settings.build_retries,
            allow_networks=settings.allow_networks,
        ),
        runtimes=catalog.versions(),
        brokers=brokers.brokers(settings),
        dead_letters=dead_letters.sink(settings),
    )


def dial_policy(settings: Settings) -> DialPolicy:
    """Which addresses a source may be dialled at."""
    api_server = os.environ.get("KUBERNETES_SERVICE_HOST")
    return DialPolicy(settings.allow_networks, forbidden=[api_server] if api_server else [])


def sources(settings: Settings) -> Sources:
    """Resolves every kind of source."""
    return SourceResolver(policy=dial_policy(settings), workers=settings.git_workers)


def checkout(settings: Settings) -> GitCheckout:
    """Bare mirrors below the cache folder."""
    return GitCheckout(settings.cache_dir / "git", policy=dial_policy(settings), workers=settings.git_workers)
