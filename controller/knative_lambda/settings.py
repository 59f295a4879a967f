"""Settings of the controller: flags over environment over file over defaults, validated in one place.

Read by `kn-lambda controller`; wiring turns them into the object graph. Environment names are the field names in
capitals behind KN_LAMBDA_ (KN_LAMBDA_WORKERS=20); lists are JSON or comma-separated.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import YamlConfigSettingsSource as YamlSource

ENV_PREFIX = "KN_LAMBDA_"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

CONTROLLERS = ("functions", "repositories")
"""A LambdaFunction -> its children; a repository -> LambdaFunctions."""

TextList = Annotated[tuple[str, ...], NoDecode]


def _own_namespace() -> str:
    """The namespace that this pod runs in, or the design document's default outside a cluster."""
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.is_file() else "knative-lambda"


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "knative-lambda"


class Settings(BaseSettings):
    """Everything that a platform engineer can set."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    kubeconfig: Path | None = None
    """File with the cluster's address; $KUBECONFIG, then ~/.kube/config, then the pod's own account when not given."""
    context: str | None = None
    """Context of the kubeconfig."""
    namespaces: TextList = ()
    """Namespaces to watch; all when empty."""
    qps: float = Field(default=400, ge=0)
    """Requests per second to the API server; 0 lifts the limit. Leases never wait."""

    controllers: TextList = CONTROLLERS
    """Which controllers this process runs; split into two Deployments, each needs a lease_name of its own."""
    workers: int = Field(default=50, ge=1, le=1000)
    """Reconciles at once."""
    reconcile_rate: float = Field(default=0, ge=0)
    """Reconciles per second; 0 is unlimited."""

    leader_elect: bool = True
    """Hold the Lease before writing; switch off only where one replica is certain."""
    lease_namespace: str = Field(default_factory=_own_namespace)
    lease_name: str = "knative-lambda-operator"
    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    """Name of this replica in the Lease."""

    events: Literal["rabbitmq", "none"] = "rabbitmq"
    """Where CloudEvents go."""
    rabbitmq: SecretStr | None = None
    """amqp:// or amqps:// URL; required unless events is none."""
    exchange: str = "knative-lambda-events"
    """Durable topic exchange; the routing key is the event's type."""

    rabbitmq_cluster: str | None = Field(default=None, pattern=r"^[a-z0-9-]+/[a-z0-9.-]+$")
    """The RabbitMQ as its operators know it: NAMESPACE/NAME of a RabbitmqCluster."""
    rabbitmq_secret: str | None = None
    """The same where no RabbitmqCluster is: a Secret with uri, username and password, in dead_letter_namespace."""
    create_brokers: bool = False
    """Make the Broker that a function's trigger names, where there is none."""

    dead_letters: Literal["amqp", "operator", "none"] = "none"
    """Who makes the queues for events that functions could not take: we, over AMQP; RabbitMQ's topology operator; or
    nobody, and Triggers inherit what their Broker does with them."""
    dead_letter_url: str | None = Field(default=None, pattern=r"^https?://[^\s/?#@]+/?$")
    """Where Knative reaches our operations port; the Service of the Lease's name and namespace, if not given."""
    dead_letter_retries: int = Field(default=5, ge=0, le=15)
    """Attempts after the first one, before an event is a dead letter."""
    dead_letter_backoff: float = Field(default=1, ge=0.01, le=60)
    """Seconds; the pauses between attempts are 2, 4, 8 … times as long."""
    dead_letter_namespace: str | None = None
    """Namespace of rabbitmq_secret and, with `operator`, of the topology's objects; the Lease's when not given."""

    registry: str = "localhost:5001"
    """Registry that nodes pull from, when a function names none."""
    push_registry: str | None = None
    """The same registry as build pods reach it (kind-registry:5000); `registry` when not given."""
    insecure_registries: TextList = ()
    """Registries that build pods talk plain HTTP to."""
    build_namespace: str | None = None
    """Where builds run; the function's namespace when not given."""
    builder_image: str = "ghcr.io/knative-lambda/controller:latest"
    """Our own image, as the builds' init container."""
    kaniko_image: str = "ghcr.io/osscontainertools/kaniko:v1.28.3"
    build_retries: int = Field(default=3, ge=0, le=10)
    """backoffLimit of a build Job."""

    cache_dir: Path = Field(default_factory=_cache_dir)
    """Where bare mirrors of git repositories are kept."""
    git_workers: int = Field(default=4, ge=1, le=64)
    """git processes at once."""
    allow_networks: TextList = ()
    """Addresses (CIDR) and hosts that sources may be dialled at although they are loopback, link-local or metadata."""

    http_port: int = Field(default=8080, ge=0, le=65535)
    """Port for probes, metrics and dead letters; 0 listens nowhere."""
    http_host: str = "0.0.0.0"  # noqa: S104 - a pod is called at its own address
    """Address to listen at."""
    metrics_functions: int = Field(default=1000, ge=0, le=10_000)
    """Functions with metrics of their own; further ones are summed up as `other`."""
    webhook_port: int = Field(default=9292, ge=0, le=65535)
    """Port for the webhooks of forges; 0 listens nowhere."""
    webhook_host: str = "0.0.0.0"  # noqa: S104 - a pod is called at its own address
    """Address to listen at."""
    webhook_body_limit: int = Field(default=1024 * 1024, ge=1024, le=25 * 1024 * 1024)
    """Bytes of one delivery; GitHub sends at most 25 MiB and usually a few KiB."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"

    @field_validator("controllers", "namespaces", "insecure_registries", "allow_networks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Lists from the environment are comma-separated."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("controllers")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or not set(names) <= set(CONTROLLERS):
            raise ValueError(f"name one or more of {', '.join(CONTROLLERS)}")
        return names

    @field_validator("rabbitmq")
    @classmethod
    def _amqp(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("amqp://", "amqps://")):
            raise ValueError("write an amqp:// or amqps:// URL")
        return value


class SettingsError(Exception):
    """Settings that contradict each other or cannot be read; the message is for the person who set them."""


def load(*, file: Path | None = None, **flags: Any) -> Settings:
    """Settings from flags (None means not given), environment and the YAML file."""
    if file is not None and not file.is_file():
        raise SettingsError(f"settings file {file} does not exist")

    given = {name: value for name, value in flags.items() if value is not None}
    found = _read(given, environment=True, file=file)
    if found.events == "rabbitmq" and found.rabbitmq is None:
        raise SettingsError(
            "no RabbitMQ is named: give --rabbitmq amqp://user:password@host:5672/ (better KN_LAMBDA_RABBITMQ, which no"
            " process list shows), or --events none to publish nothing"
        )
    _check_dead_letters(found)
    _check_operators(found)
    return found


def only(**values: Any) -> Settings:
    """Settings from these values and the defaults; the environment of a controller does not bear on local mode."""
    return _read(values, environment=False)


def _read(values: dict[str, Any], *, environment: bool, file: Path | None = None) -> Settings:
    """The values first, then what else may be read."""

    class Chosen(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            further = (env_settings, YamlSource(settings_cls, yaml_file=file)) if environment else ()
            return (init_settings, *further)

    return Chosen(**values)


def _check_dead_letters(found: Settings) -> None:
    """Dead letters need RabbitMQ, a port that takes them and, with the operator, one RabbitMQ that it knows."""
    if found.dead_letters == "none":
        return
    if found.rabbitmq is None:
        raise SettingsError(f"dead_letters is {found.dead_letters}: name the RabbitMQ that keeps them (rabbitmq)")
    if not found.http_port:
        raise SettingsError(f"dead_letters is {found.dead_letters}: give http_port, where they are taken")


def _check_operators(found: Settings) -> None:
    """Objects of RabbitMQ's and Knative's operators name one RabbitMQ."""
    asked = "dead_letters is operator" if found.dead_letters == "operator" else ""
    asked = asked or ("create_brokers is true" if found.create_brokers else "")
    if asked and bool(found.rabbitmq_cluster) == bool(found.rabbitmq_secret):
        raise SettingsError(f"{asked}: give either rabbitmq_cluster or rabbitmq_secret")
