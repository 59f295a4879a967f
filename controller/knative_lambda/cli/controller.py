"""`kn-lambda controller`: settings from flags, environment and file, then the process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from knative_lambda import settings as configuration
from knative_lambda.settings import ENV_PREFIX


def _option(name: str, help_text: str, *flags: str) -> Any:
    """An option that names its environment variable in its help."""
    return typer.Option(*flags, help=f"{help_text} [env: {ENV_PREFIX}{name}]", show_default=False)


FromFile = Annotated[Path | None, typer.Option(help="YAML file with settings, named as in the environment.")]
Kubeconfig = Annotated[
    Path | None, _option("KUBECONFIG", "The cluster; else $KUBECONFIG, ~/.kube/config or the pod's.")
]
Context = Annotated[str | None, _option("CONTEXT", "Context of the kubeconfig.")]
Namespaces = Annotated[
    list[str] | None, _option("NAMESPACES", "Watch this namespace only; repeatable.", "--namespace", "-n")
]
RabbitMQ = Annotated[
    str | None, _option("RABBITMQ", "amqp(s):// URL for CloudEvents; only the environment hides it from process lists.")
]
Events = Annotated[str | None, _option("EVENTS", "rabbitmq, or none to publish nothing.")]
Elect = Annotated[
    bool | None, _option("LEADER_ELECT", "Write only while holding the Lease.", "--leader-elect/--no-leader-elect")
]
LeaseNamespace = Annotated[str | None, _option("LEASE_NAMESPACE", "Namespace of the Lease; else the pod's own.")]
Identity = Annotated[str | None, _option("IDENTITY", "Name of this replica in the Lease.")]
Workers = Annotated[int | None, _option("WORKERS", "Reconciles at once (50).")]
Qps = Annotated[float | None, _option("QPS", "Requests per second to the API server (400); 0 is unlimited.")]
Registry = Annotated[str | None, _option("REGISTRY", "Registry for functions that name none (localhost:5001).")]
PushRegistry = Annotated[str | None, _option("PUSH_REGISTRY", "The same registry as build pods reach it.")]
WebhookPort = Annotated[
    int | None, _option("WEBHOOK_PORT", "Port for the webhooks of forges (9292); 0 listens nowhere.")
]
LogLevel = Annotated[str | None, _option("LOG_LEVEL", "debug, info, warning or error (info).")]
LogFormat = Annotated[str | None, _option("LOG_FORMAT", "auto, json or text (auto).")]


def controller(
    config: FromFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespaces = None,
    rabbitmq: RabbitMQ = None,
    events: Events = None,
    leader_elect: Elect = None,
    lease_namespace: LeaseNamespace = None,
    identity: Identity = None,
    workers: Workers = None,
    qps: Qps = None,
    registry: Registry = None,
    push_registry: PushRegistry = None,
    webhook_port: WebhookPort = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the controller until SIGTERM.

    \b
    kn-lambda controller --rabbitmq amqp://guest:guest@localhost:5672/
    kn-lambda controller --events none --namespace shop --no-leader-elect
    KN_LAMBDA_WORKERS=20 kn-lambda controller --config settings.yaml

    Flags win over the environment, the environment over the file.
    """
    flags = {
        "kubeconfig": kubeconfig,
        "context": context,
        "namespaces": tuple(namespace) if namespace else None,
        "rabbitmq": rabbitmq,
        "events": events,
        "leader_elect": leader_elect,
        "lease_namespace": lease_namespace,
        "identity": identity,
        "workers": workers,
        "qps": qps,
        "registry": registry,
        "push_registry": push_registry,
        "webhook_port": webhook_port,
        "log_level": log_level,
        "log_format": log_format,
    }
    chosen = configuration.load(file=config, **flags)
    asyncio.run(_run(chosen))


async def _run(settings: configuration.Settings) -> None:
    from knative_lambda.kit import logging
    from knative_lambda.machinery.process import stop_on_signals
    from knative_lambda.wiring import controller as process

    logging.configure(level=settings.log_level, form=settings.log_format)
    stop = asyncio.Event()
    stop_on_signals(stop)
    await process.run(settings, stop=stop)
