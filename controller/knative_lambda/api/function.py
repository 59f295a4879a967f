"""LambdaFunction: the object that every road ends in. Fields and defaults are the design document's CRD.

Rules that the API server must check too are `x-kubernetes-validations` (CEL) beside the validator that says the same
in Python; tests hold the two against each other.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from knative_lambda.api import quantity
from knative_lambda.api.conditions import Condition
from knative_lambda.api.fields import Duration, Name, Quantity, RepoPath, SecretRef, check_within, rule, within
from knative_lambda.api.meta import API_VERSION, NAME_LENGTH, NAME_PATTERN, Key, Model, ObjectMeta, Seen
from knative_lambda.api.phases import Phase
from knative_lambda.api.source import (
    KEYS_REFUSED,
    GcsSource,
    GitSource,
    ImageSource,
    InlineSource,
    MinioSource,
    S3Source,
    Source,
    SourceType,
)

NAME_RULE = f"a DNS-1035 label of at most {NAME_LENGTH} characters: a-z, 0-9 and '-', a letter first"
NAME_CEL = f"size(self.metadata.name) <= {NAME_LENGTH} && self.metadata.name.matches('{NAME_PATTERN}')"

__all__ = [
    "DEFAULT_HANDLER",
    "DEFAULT_VERSION",
    "KEYS_REFUSED",
    "NAME_CEL",
    "NAME_RULE",
    "OUTBOX_LIMIT",
    "RESERVED_ENV",
    "Build",
    "BuildStatus",
    "EnvSource",
    "EnvVar",
    "FunctionSpec",
    "FunctionStatus",
    "FunctionTrigger",
    "GcsSource",
    "GitSource",
    "ImageSource",
    "InlineSource",
    "KeyRef",
    "LambdaFunction",
    "Language",
    "Limits",
    "MinioSource",
    "PendingEvent",
    "Requests",
    "Resources",
    "Runtime",
    "S3Source",
    "Scaling",
    "SecretRef",
    "ServiceStatus",
    "Source",
    "SourceStatus",
    "SourceType",
    "TriggerFilter",
    "parse",
]


class Language(StrEnum):
    """Languages that a function can be written in."""

    NODEJS = "nodejs"
    PYTHON = "python"
    GO = "go"


DEFAULT_HANDLER = {Language.NODEJS: "index.handler", Language.PYTHON: "main.handler", Language.GO: "main.Handler"}
DEFAULT_VERSION = {Language.NODEJS: "22", Language.PYTHON: "3.13", Language.GO: "1.25"}


class Runtime(Model):
    """Language, its version and where the function is entered."""

    language: Language
    """Language of the code; decides the base image and the shim around the handler."""
    version: str | None = Field(default=None, max_length=32, pattern=r"^[0-9]+(\.[0-9]+){0,2}$")
    """Version of the language; the newest that we ship when not given."""
    handler: str | None = Field(default=None, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*([./-][A-Za-z0-9_]+)*$")
    """module.function; a bare name is looked up in the language's usual module."""

    def entrypoint(self) -> tuple[str, str]:
        """(module, function), with the language's defaults filled in."""
        module, function = DEFAULT_HANDLER[self.language].rsplit(".", 1)
        if self.handler is None:
            return module, function
        given, dot, name = self.handler.rpartition(".")
        return (given, name) if dot else (module, name)

    def release(self) -> str:
        """The version that is built."""
        return self.version or DEFAULT_VERSION[self.language]


class Scaling(Model):
    """How Knative scales the function."""

    model_config = ConfigDict(
        json_schema_extra=rule("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas")
    )

    min_replicas: int = Field(default=0, ge=0, le=1000)
    """Replicas that stay without traffic; 0 scales to zero."""
    max_replicas: int = Field(default=50, ge=1, le=1000)
    """Replicas at most, whatever the traffic."""
    target_concurrency: int = Field(default=10, ge=1, le=1000)
    """Requests at once per replica that the autoscaler aims at; so many events each trigger delivers at a time."""
    scale_to_zero_grace_period: Duration = Field(default="30s", json_schema_extra=within("0s", "1h"))
    """How long the last replica is kept without traffic; Knative allows 1h at most."""

    @field_validator("scale_to_zero_grace_period")
    @classmethod
    def _within_an_hour(cls, text: str) -> str:
        return check_within(text, "0s", "1h")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas ({self.min_replicas}) must not exceed maxReplicas ({self.max_replicas})")
        return self


class Requests(Model):
    """What the scheduler sets aside for one replica."""

    memory: Quantity = "32Mi"
    """Bytes, as 32Mi or 1Gi."""
    cpu: Quantity = "25m"
    """Processors; 25m are 25 thousandths of one."""


class Limits(Model):
    """What one replica may use."""

    memory: Quantity = "64Mi"
    """Bytes; a replica that takes more is killed."""
    cpu: Quantity = "50m"
    """Processors; a replica that wants more is slowed down."""


def _within_limit(member: str) -> dict[str, Any]:
    """CEL: a request that exceeds its limit would be refused much later, by the replica's pod."""
    smaller, larger = (f"quantity(string(self.{part}.{member}))" for part in ("requests", "limits"))
    return {
        "rule": f"{smaller}.compareTo({larger}) <= 0",
        "message": f"requests.{member} must not exceed limits.{member}; a limit that is not given has a small default",
    }


class Resources(Model):
    """Memory and processor of one replica."""

    model_config = ConfigDict(
        json_schema_extra={"x-kubernetes-validations": [_within_limit("memory"), _within_limit("cpu")]}
    )

    requests: Requests = Requests()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for member in ("memory", "cpu"):
            asked, allowed = getattr(self.requests, member), getattr(self.limits, member)
            if quantity.parse(asked) > quantity.parse(allowed):
                raise ValueError(f"requests.{member} ({asked}) must not exceed limits.{member} ({allowed})")
        return self


class KeyRef(Model):
    """One key of a Secret or ConfigMap in the function's namespace."""

    name: Name
    """Name of the Secret or ConfigMap."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """Key in its data."""
    optional: bool = False
    """Start without the variable when the object or the key is not there."""


class EnvSource(Model):
    """Exactly one place that a value comes from."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)", "set exactly one of secretKeyRef and configMapKeyRef"
        )
    )

    secret_key_ref: KeyRef | None = None
    """A key of a Secret in the function's namespace."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap in the function's namespace."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise ValueError("set exactly one of secretKeyRef and configMapKeyRef")
        return self


RESERVED_ENV = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})


class EnvVar(Model):
    """One environment variable of the function."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "!(has(self.value) && has(self.valueFrom))", "message": "value and valueFrom are exclusive"},
                {
                    "rule": "!(self.name in ['PORT', 'K_SERVICE', 'K_CONFIGURATION', 'K_REVISION'])",
                    "message": "Knative sets PORT, K_SERVICE, K_CONFIGURATION and K_REVISION itself",
                },
            ]
        }
    )

    name: str = Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")
    """Name of the variable; Knative's own (PORT, K_SERVICE, K_CONFIGURATION, K_REVISION) are refused."""
    value: str | None = Field(default=None, max_length=32768)
    """The value itself, empty when neither this nor valueFrom is given."""
    value_from: EnvSource | None = None
    """A Secret's or ConfigMap's key that holds the value."""

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise ValueError("value and valueFrom are exclusive")
        if self.name in RESERVED_ENV:
            raise ValueError(f"Knative sets {self.name} itself")
        return self


AttributeValue = Annotated[str, Field(min_length=1, max_length=1024)]
AttributeName = Annotated[str, Field(max_length=20, pattern=r"^[a-z][a-z0-9]*$")]


class TriggerFilter(Model):
    """CloudEvent attributes that must all be equal; wildcards do not exist."""

    type: AttributeValue | None = None
    """CloudEvent type."""
    source: AttributeValue | None = None
    """CloudEvent source."""
    attributes: dict[AttributeName, AttributeValue] = Field(default_factory=dict, max_length=16)
    """Further attributes and extensions by name."""

    def exact(self) -> dict[str, str]:
        """Attribute name -> value, as Knative wants it."""
        named = {"type": self.type, "source": self.source}
        return {**self.attributes, **{name: value for name, value in named.items() if value is not None}}


class FunctionTrigger(Model):
    """Events of a Broker that are delivered to the function."""

    broker: str = Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    """Name of the Broker in the function's namespace."""
    filter: TriggerFilter = TriggerFilter()
    """Which of its events; all when empty."""


class Build(Model):
    """How the image is made and where it goes."""

    timeout: Duration = Field(default="30m", json_schema_extra=within("10s", "6h"))
    """After this long a build is stopped (activeDeadlineSeconds of its Job)."""
    registry: str | None = Field(default=None, min_length=1, max_length=400, pattern=r"^[a-z0-9][a-z0-9._:/-]*$")
    """Repository to push to (ghcr.io/me/hello); the controller's default with namespace and name when not given."""
    image_pull_secret: Name | None = None
    """Secret of type kubernetes.io/dockerconfigjson that pulls the image."""
    push_secret: Name | None = None
    """The same for pushing, in the build namespace; imagePullSecret when not given."""
    watch_paths: tuple[Annotated[RepoPath, Field(min_length=1)], ...] = Field(default=(), max_length=32)
    """Further paths of the repository whose change rebuilds the function."""

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, text: str) -> str:
        return check_within(text, "10s", "6h")


class FunctionSpec(Model):
    """What the user asks for."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "has(self.runtime) || self.source.type == 'image'", "runtime is required unless source.type is image"
        )
    )

    source: Source
    runtime: Runtime | None = None
    scaling: Scaling = Scaling()
    resources: Resources = Resources()
    env: tuple[EnvVar, ...] = Field(default=(), max_length=100, json_schema_extra={"x-list-map-key": "name"})
    """Environment variables, each name once."""
    triggers: tuple[FunctionTrigger, ...] = Field(default=(), max_length=32)
    """Events that are delivered to the function."""
    build: Build = Build()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.runtime is None and self.source.type is not SourceType.IMAGE:
            raise ValueError("runtime is required unless source.type is image")
        names = [variable.name for variable in self.env]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"env names must be unique; twice: {', '.join(twice)}")
        return self


class SourceStatus(Seen):
    """The source as it was resolved."""

    digest: str = Field(default="", max_length=64)
    """Digest of the content's identity (URL, commit, path; or the inline text)."""
    revision: str = Field(default="", max_length=256)
    """Commit, object version or image digest, for people."""
    generation: int = 0
    """Generation of the spec that was resolved."""


class BuildStatus(Seen):
    """The newest build."""

    digest: str = Field(default="", max_length=64)
    """Identity of the build: source, runtime, handler, builder."""
    job_name: str = Field(default="", max_length=63)
    """Job that builds, in the build namespace."""
    image_uri: str = Field(default="", max_length=1024, alias="imageURI")
    """Image by digest, as the Knative Service names it; empty until the build is complete."""
    started_at: datetime | None = None
    """When the Job started."""
    completed_at: datetime | None = None
    """When the Job ended, well or not."""
    error: str = Field(default="", max_length=8192)
    """Why the build failed: the last lines of its log."""


class ServiceStatus(Seen):
    """The Knative Service as last seen."""

    service_name: str = Field(default="", max_length=63)
    """Name of the Knative Service."""
    url: str = Field(default="", max_length=2048)
    """Address inside the cluster."""
    ready: bool = False
    """What Knative says of the Service."""
    replicas: int | None = None
    """Pods that run now; 0 when scaled to zero."""
    revision: str = Field(default="", max_length=253)
    """Latest revision that Knative calls ready."""
    applied_hash: str = Field(default="", max_length=64)
    """Digest of the Service as it was last applied; part of event ids."""


class PendingEvent(Seen):
    """An event that RabbitMQ did not confirm yet; sent again under the same id."""

    id: str = Field(max_length=64)
    """CloudEvent id, the same at every attempt."""
    type: str = Field(max_length=128)
    """CloudEvent type."""
    time: datetime
    """When it happened, not when it is sent."""
    data: str = Field(max_length=16384)
    """The payload as JSON text."""
    subject: str = Field(default="", max_length=512)
    """CloudEvent subject: namespace/name of the function."""
    extensions: dict[str, str] = Field(default_factory=dict, max_length=16)
    """lambdacategory, correlationid, causationid, as they were when the event happened."""


OUTBOX_LIMIT = 64


class FunctionStatus(Seen):
    """What was seen, never what was asked for."""

    observed_generation: int = 0
    """Generation of the spec that this status speaks of."""
    phase: Phase | None = None
    """The conditions in one word, for people; programs read the conditions."""
    url: str = Field(default="", max_length=2048)
    """Where the function answers."""
    image: str = Field(default="", max_length=1024)
    """Image that is deployed, by digest."""
    source_status: SourceStatus | None = None
    build_status: BuildStatus | None = None
    service_status: ServiceStatus | None = None
    transitions: int = 0
    """How many times the phase changed; part of event ids."""
    outbox: tuple[PendingEvent, ...] = Field(default=(), max_length=OUTBOX_LIMIT)
    """Events that are not confirmed yet, oldest first."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32, json_schema_extra={"x-list-map-key": "type"})
    """What is known, one row per type."""


class LambdaFunction(Seen):
    """A function: source, runtime, scaling, triggers; and what became of it."""

    model_config = ConfigDict(json_schema_extra=rule(NAME_CEL, f"metadata.name must be {NAME_RULE}"))

    api_version: str = API_VERSION
    kind: str = "LambdaFunction"
    metadata: ObjectMeta
    spec: FunctionSpec
    status: FunctionStatus = FunctionStatus()

    @field_validator("metadata")
    @classmethod
    def _named(cls, metadata: ObjectMeta) -> ObjectMeta:
        if len(metadata.name) > NAME_LENGTH or not re.fullmatch(NAME_PATTERN, metadata.name):
            raise ValueError(f"metadata.name {metadata.name!r} must be {NAME_RULE}")
        return metadata

    @property
    def key(self) -> Key:
        return self.metadata.key

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None


def parse(raw: dict[str, Any]) -> LambdaFunction:
    """A LambdaFunction from an API server's or a person's object; raises pydantic.ValidationError."""
    return LambdaFunction.model_validate(raw)
