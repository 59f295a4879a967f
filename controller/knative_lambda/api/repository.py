"""FunctionRepository: a git repository whose function directories become LambdaFunctions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from knative_lambda.api.conditions import Condition
from knative_lambda.api.function import Duration, Name, SecretRef
from knative_lambda.api.meta import API_VERSION, Key, Model, ObjectMeta, Seen
from knative_lambda.kit import duration

RefName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/+@-]*$")]
INVENTORY_LIMIT = 5000
FINDINGS_LIMIT = 200


class Ref(Model):
    """At most one of branch, tag and commit; the remote's HEAD when none is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "[has(self.branch), has(self.tag), has(self.commit)].filter(x, x).size() <= 1",
                    "message": "set at most one of branch, tag and commit",
                }
            ]
        }
    )

    branch: RefName | None = None
    tag: RefName | None = None
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$", max_length=64)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.branch, self.tag, self.commit)) > 1:
            raise ValueError("set at most one of branch, tag and commit")
        return self


class Webhook(Model):
    """A forge that may ask us to look again."""

    secret_ref: SecretRef
    """Secret with the key token: the forge signs with it."""


class Verify(Model):
    """Commits must be signed by one of these keys."""

    secret_ref: SecretRef
    """Secret with the key allowed_signers, in the format of ssh-keygen."""


class RepositorySpec(Model):
    """Which repository, where in it, and how it is followed."""

    url: str = Field(min_length=1, max_length=2048, pattern=r"^(https?|ssh)://[^\s]+$")
    ref: Ref = Ref()
    path: str = Field(default="", max_length=1024)
    """Directory below which function.yaml files are looked for."""
    interval: Duration = "1m"
    """How often the remote is asked without a webhook, with jitter."""
    timeout: Duration = "60s"
    """Limit of one fetch."""
    secret_ref: SecretRef | None = None
    """Secret with username and password, or with identity and known_hosts."""
    target_namespace: str | None = Field(default=None, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Where the functions go; the repository's own namespace when not given."""
    prune: bool = True
    """Delete functions that vanished from the repository."""
    suspend: bool = False
    """Do nothing until this is false again."""
    verify: Verify | None = None
    webhook: Webhook | None = None

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if path.startswith(("/", "-")) or "\\" in path or ".." in path.split("/"):
            raise ValueError(f"{path!r} leaves the repository; write a relative path without '..'")
        return path.strip("/")

    @field_validator("interval")
    @classmethod
    def _not_hammering(cls, text: str) -> str:
        if duration.seconds(text) < 5:
            raise ValueError("interval must be at least 5s")
        return text


class InventoryItem(Seen):
    """One function that this repository wrote."""

    namespace: str = Field(max_length=63)
    name: Name
    path: str = Field(default="", max_length=1024)
    """Directory in the repository."""
    tree: str = Field(default="", max_length=64)
    """Digest of the directory's content when it was applied."""
    commit: str = Field(default="", max_length=64)
    """Commit at which the directory last changed."""

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)


class Finding(Seen):
    """Something in the repository that a person must mend."""

    file: str = Field(max_length=1024)
    line: int | None = None
    """Counted from 1."""
    pointer: str = Field(default="", max_length=1024)
    """JSON pointer into the document."""
    function: str = Field(default="", max_length=253)
    message: str = Field(max_length=2048)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.pointer + ': ' if self.pointer else ''}{self.message}"


class RepositoryStatus(Seen):
    """What was fetched and applied."""

    observed_generation: int = 0
    observed_revision: str = Field(default="", max_length=320)
    """Newest commit seen at the remote, as ref@commit."""
    applied_revision: str = Field(default="", max_length=320)
    """Newest commit whose valid functions are all written."""
    functions: int = 0
    """How many functions are in the inventory."""
    last_sync_time: datetime | None = None
    last_handled_reconcile_at: str = Field(default="", max_length=256)
    webhook_path: str = Field(default="", max_length=256)
    inventory: tuple[InventoryItem, ...] = Field(default=(), max_length=INVENTORY_LIMIT)
    findings: tuple[Finding, ...] = Field(default=(), max_length=FINDINGS_LIMIT)
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32, json_schema_extra={"x-list-map-key": "type"})


class FunctionRepository(Seen):
    """A git repository whose function directories become LambdaFunctions."""

    api_version: str = API_VERSION
    kind: str = "FunctionRepository"
    metadata: ObjectMeta
    spec: RepositorySpec
    status: RepositoryStatus = RepositoryStatus()

    @property
    def key(self) -> Key:
        return self.metadata.key

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def target_namespace(self) -> str:
        return self.spec.target_namespace or self.metadata.namespace


def parse(raw: dict[str, Any]) -> FunctionRepository:
    """A FunctionRepository from an API server's or a person's object; raises pydantic.ValidationError."""
    return FunctionRepository.model_validate(raw)
