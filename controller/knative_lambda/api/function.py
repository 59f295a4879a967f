"""LambdaFunction: the object that every road ends in. Fields and defaults are the design document's CRD.

Rules that the API server must check too are `x-kubernetes-validations` (CEL) beside the validator that says the same
in Python; tests hold the two against each other.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from knative_lambda.api.conditions import Condition
from knative_lambda.api.meta import API_VERSION, NAME_LENGTH, NAME_PATTERN, Key, Model, ObjectMeta, Seen
from knative_lambda.api.phases import Phase
from knative_lambda.kit import duration

QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
KEYS_REFUSED = (
    "credentials do not belong in a spec, which everybody can read: put accessKey and secretKey into a Secret"
    " and name it in secretRef"
)

NAME_RULE = f"a DNS-1035 label of at most {NAME_LENGTH} characters: a-z, 0-9 and '-', a letter first"
NAME_CEL = f"size(self.metadata.name) <= {NAME_LENGTH} && self.metadata.name.matches('{NAME_PATTERN}')"

Name = Annotated[str, Field(min_length=1, max_length=253)]
Duration = Annotated[str, Field(max_length=16, pattern=duration.PATTERN)]
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    Field(max_length=32, pattern=QUANTITY_PATTERN, json_schema_extra={"x-quantity": True}),
]
ObjectName = Annotated[str, Field(min_length=1, max_length=1024)]
Bucket = Annotated[str, Field(min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9._-]*[a-z0-9]$")]


class SourceType(StrEnum):
    """Where the code comes from."""

    MINIO = "minio"
    S3 = "s3"
    GCS = "gcs"
    GIT = "git"
    INLINE = "inline"
    IMAGE = "image"


class Language(StrEnum):
    """Languages that a function can be written in."""

    NODEJS = "nodejs"
    PYTHON = "python"
    GO = "go"


DEFAULT_HANDLER = {Language.NODEJS: "index.handler", Language.PYTHON: "main.handler", Language.GO: "main.Handler"}
DEFAULT_VERSION = {Language.NODEJS: "22", Language.PYTHON: "3.13", Language.GO: "1.25"}


class SecretRef(Model):
    """A Secret in the function's namespace."""

    name: Name


class _KeysBelongInSecret(Model):
    """Object stores: the two fields of the design document that would lay credentials open are refused by name."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "!has(self.accessKey) && !has(self.secretKey)", "message": KEYS_REFUSED}
            ]
        }
    )

    access_key: str | None = Field(default=None, max_length=256)
    """Refused: credentials go into a Secret."""
    secret_key: str | None = Field(default=None, max_length=256)
    """Refused: credentials go into a Secret."""
    secret_ref: SecretRef | None = None
    """Secret with the keys accessKey and secretKey; without it the store is read anonymously."""

    @model_validator(mode="after")
    def _no_keys(self) -> Self:
        if self.access_key is not None or self.secret_key is not None:
            raise ValueError(KEYS_REFUSED)
        return self


class MinioSource(_KeysBelongInSecret):
    """An object in MinIO or another S3-like store: a .zip, .tar.gz or a single source file."""

    endpoint: str = Field(default="minio.minio.svc.cluster.local:9000", min_length=1, max_length=253)
    """Host and port, without a scheme."""
    bucket: Bucket
    key: ObjectName
    secure: bool = False
    """Whether the endpoint speaks TLS."""


class S3Source(_KeysBelongInSecret):
    """An object in AWS S3."""

    bucket: Bucket
    key: ObjectName
    region: str = Field(default="us-east-1", min_length=1, max_length=64)


class GcsSource(Model):
    """An object in Google Cloud Storage."""

    bucket: Bucket
    key: ObjectName
    project: str | None = Field(default=None, max_length=64)
    secret_ref: SecretRef | None = None
    """Secret with the key credentials.json; without it workload identity is used."""


class GitSource(Model):
    """A directory of a git repository."""

    url: str = Field(min_length=1, max_length=2048, pattern=r"^(https?|ssh)://[^\s]+$")
    """https:// or ssh:// address; credentials go into secretRef."""
    ref: str | None = Field(default=None, max_length=255, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/+@-]*$")
    """Branch, tag or commit; the remote's HEAD when not given. An absent ref is an error, never the default branch."""
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$", max_length=64)
    """Pins the content; filled in by a FunctionRepository."""
    path: str = Field(default="", max_length=1024)
    """Directory below the root of the repository."""
    secret_ref: SecretRef | None = None
    """Secret with username and password, or with identity and known_hosts."""

    @field_validator("url")
    @classmethod
    def _no_credentials(cls, url: str) -> str:
        if re.match(r"^https?://[^/]*@", url):
            raise ValueError(
                "credentials do not belong in a URL; put username and password into a Secret and name it in secretRef"
            )
        return url

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if path.startswith(("/", "-")) or "\\" in path or ".." in path.split("/"):
            raise ValueError(f"{path!r} leaves the repository; write a relative path without '..'")
        return path.strip("/")


class InlineSource(Model):
    """Code in the object itself, for the small and the first."""

    code: str = Field(min_length=1, max_length=65536)
    """Text of the handler's file."""
    dependencies: str = Field(default="", max_length=16384)
    """Text of requirements.txt, package.json or go.mod."""


class ImageSource(Model):
    """A ready image: nothing is built."""

    uri: str = Field(min_length=1, max_length=512, pattern=r"^[a-z0-9][A-Za-z0-9._:/@-]*$")


_MEMBERS = tuple(kind.value for kind in SourceType)


class Source(Model):
    """Exactly the member that `type` names is set."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": f"(self.type == '{member}') == has(self.{member})",
                    "message": f"set source.{member} when, and only when, type is {member}",
                }
                for member in _MEMBERS
            ]
        }
    )

    type: SourceType = SourceType.MINIO
    minio: MinioSource | None = None
    s3: S3Source | None = None
    gcs: GcsSource | None = None
    git: GitSource | None = None
    inline: InlineSource | None = None
    image: ImageSource | None = None

    @model_validator(mode="after")
    def _one_member(self) -> Self:
        given = [member for member in _MEMBERS if getattr(self, member) is not None]
        if given != [self.type.value]:
            found = ", ".join(given) or "none"
            raise ValueError(f"set exactly the member that type names: type is {self.type.value}, set are {found}")
        return self


class Runtime(Model):
    """Language, its version and where the function is entered."""

    language: Language
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
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "self.minReplicas <= self.maxReplicas", "message": "minReplicas must not exceed maxReplicas"}
            ]
        }
    )

    min_replicas: int = Field(default=0, ge=0, le=1000)
    max_replicas: int = Field(default=50, ge=1, le=1000)
    target_concurrency: int = Field(default=10, ge=1, le=1000)
    """Requests at once per replica that the autoscaler aims at."""
    scale_to_zero_grace_period: Duration = "30s"
    """How long the last replica is kept without traffic, up to 1h."""

    @field_validator("scale_to_zero_grace_period")
    @classmethod
    def _within_an_hour(cls, text: str) -> str:
        if duration.seconds(text) > 3600:
            raise ValueError("Knative keeps an idle replica for 1h at most")
        return text

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas ({self.min_replicas}) must not exceed maxReplicas ({self.max_replicas})")
        return self


class Requests(Model):
    """What the scheduler sets aside for one replica."""

    memory: Quantity = "32Mi"
    cpu: Quantity = "25m"


class Limits(Model):
    """What one replica may use."""

    memory: Quantity = "64Mi"
    cpu: Quantity = "50m"


class Resources(Model):
    """Memory and processor of one replica."""

    requests: Requests = Requests()
    limits: Limits = Limits()


class KeyRef(Model):
    """One key of a Secret or ConfigMap in the function's namespace."""

    name: Name
    key: Annotated[str, Field(min_length=1, max_length=253)]
    optional: bool = False


class EnvSource(Model):
    """Exactly one place that a value comes from."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                    "message": "set exactly one of secretKeyRef and configMapKeyRef",
                }
            ]
        }
    )

    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None

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
    value: str | None = Field(default=None, max_length=32768)
    value_from: EnvSource | None = None

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
    source: AttributeValue | None = None
    attributes: dict[AttributeName, AttributeValue] = Field(default_factory=dict, max_length=16)
    """Further attributes and extensions by name."""

    def exact(self) -> dict[str, str]:
        """Attribute name -> value, as Knative wants it."""
        named = {"type": self.type, "source": self.source}
        return {**self.attributes, **{name: value for name, value in named.items() if value is not None}}


class FunctionTrigger(Model):
    """Events of a Broker that are delivered to the function."""

    broker: str = Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    filter: TriggerFilter = TriggerFilter()


class Build(Model):
    """How the image is made and where it goes."""

    timeout: Duration = "30m"
    registry: str | None = Field(default=None, min_length=1, max_length=400, pattern=r"^[a-z0-9][a-z0-9._:/-]*$")
    """Repository to push to (ghcr.io/me/hello); the controller's default with namespace and name when not given."""
    image_pull_secret: Name | None = None
    """Secret of type kubernetes.io/dockerconfigjson that pulls the image."""
    push_secret: Name | None = None
    """The same for pushing, in the build namespace; imagePullSecret when not given."""
    watch_paths: tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...] = Field(default=(), max_length=32)
    """Further paths of the repository whose change rebuilds the function."""

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, text: str) -> str:
        if not 10 <= duration.seconds(text) <= 6 * 3600:
            raise ValueError("a build takes between 10s and 6h")
        return text

    @field_validator("watch_paths")
    @classmethod
    def _inside(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if path.startswith(("/", "-")) or "\\" in path or ".." in path.split("/"):
                raise ValueError(f"{path!r} leaves the repository; write a relative path without '..'")
        return paths


class FunctionSpec(Model):
    """What the user asks for."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "has(self.runtime) || self.source.type == 'image'",
                    "message": "runtime is required unless source.type is image",
                }
            ]
        }
    )

    source: Source
    runtime: Runtime | None = None
    scaling: Scaling = Scaling()
    resources: Resources = Resources()
    env: tuple[EnvVar, ...] = Field(default=(), max_length=100, json_schema_extra={"x-list-map-key": "name"})
    triggers: tuple[FunctionTrigger, ...] = Field(default=(), max_length=32)
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
    image_uri: str = Field(default="", max_length=1024, alias="imageURI")
    """Image by digest, as the Knative Service names it; empty until the build is complete."""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error: str = Field(default="", max_length=8192)


class ServiceStatus(Seen):
    """The Knative Service as last seen."""

    service_name: str = Field(default="", max_length=63)
    url: str = Field(default="", max_length=2048)
    """Address inside the cluster."""
    ready: bool = False
    replicas: int | None = None
    revision: str = Field(default="", max_length=253)
    """Latest revision that Knative calls ready."""


class PendingEvent(Seen):
    """An event that RabbitMQ did not confirm yet; sent again under the same id."""

    id: str = Field(max_length=64)
    type: str = Field(max_length=128)
    time: datetime
    data: str = Field(max_length=16384)
    """The payload as JSON text."""


OUTBOX_LIMIT = 64


class FunctionStatus(Seen):
    """What was seen, never what was asked for."""

    observed_generation: int = 0
    phase: Phase | None = None
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
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32, json_schema_extra={"x-list-map-key": "type"})


class LambdaFunction(Seen):
    """A function: source, runtime, scaling, triggers; and what became of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": NAME_CEL,
                    "message": f"metadata.name must be {NAME_RULE}",
                }
            ]
        }
    )

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
