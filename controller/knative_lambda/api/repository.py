"""FunctionRepository: a git repository whose function directories become LambdaFunctions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from knative_lambda.api.conditions import Condition
from knative_lambda.api.fields import (
    Commit,
    Duration,
    GitUrl,
    Name,
    RefName,
    RepoPath,
    SecretRef,
    check_within,
    rule,
    within,
)
from knative_lambda.api.meta import API_VERSION, Key, Model, ObjectMeta, Seen
from knative_lambda.kit import digest

INVENTORY_LIMIT = 5000
FINDINGS_LIMIT = 200


class Ref(Model):
    """At most one of branch, tag and commit; the remote's HEAD when none is given."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "[has(self.branch), has(self.tag), has(self.commit)].filter(x, x).size() <= 1",
            "set at most one of branch, tag and commit",
        )
    )

    branch: RefName | None = None
    """Branch that is followed."""
    tag: RefName | None = None
    """Tag that is followed, also when it moves."""
    commit: Commit | None = None
    """One commit, for good."""

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

    url: GitUrl
    """https:// or ssh:// address; credentials go into secretRef."""
    ref: Ref = Ref()
    path: RepoPath = ""
    """Directory below which function.yaml files are looked for."""
    interval: Duration = Field(default="1m", json_schema_extra=within("5s", "24h"))
    """How often the remote is asked without a webhook, with jitter."""
    timeout: Duration = Field(default="60s", json_schema_extra=within("1s", "30m"))
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

    @field_validator("interval")
    @classmethod
    def _not_hammering(cls, text: str) -> str:
        return check_within(text, "5s", "24h")

    @field_validator("timeout")
    @classmethod
    def _bounded(cls, text: str) -> str:
        return check_within(text, "1s", "30m")


class InventoryItem(Seen):
    """One function that this repository wrote."""

    namespace: str = Field(max_length=63)
    """Namespace of the function."""
    name: Name
    """Name of the function."""
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
    """Path in the repository."""
    line: int | None = None
    """Counted from 1."""
    pointer: str = Field(default="", max_length=1024)
    """JSON pointer into the document."""
    function: str = Field(default="", max_length=253)
    """Name of the function that is held back by this, where that is known."""
    message: str = Field(max_length=2048)
    """What is wrong and what to write instead."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.pointer + ': ' if self.pointer else ''}{self.message}"


class RepositoryStatus(Seen):
    """What was fetched and applied."""

    observed_generation: int = 0
    """Generation of the spec that this status speaks of."""
    observed_revision: str = Field(default="", max_length=320)
    """Newest commit seen at the remote, as ref@commit."""
    applied_revision: str = Field(default="", max_length=320)
    """Newest commit whose valid functions are all written."""
    functions: int = 0
    """How many functions are in the inventory."""
    last_sync_time: datetime | None = None
    """When a revision was last applied."""
    last_handled_reconcile_at: str = Field(default="", max_length=256)
    """Value of the annotation lambda.knative.io/reconcile-requested-at that was answered last."""
    webhook_path: str = Field(default="", max_length=256)
    """Path below the controller's webhook address that the forge calls."""
    inventory: tuple[InventoryItem, ...] = Field(default=(), max_length=INVENTORY_LIMIT)
    """Functions that this repository wrote and may prune."""
    findings: tuple[Finding, ...] = Field(default=(), max_length=FINDINGS_LIMIT)
    """What is wrong in the revision; the functions that are named are held back, the others are applied."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32, json_schema_extra={"x-list-map-key": "type"})
    """What is known, one row per type."""


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
    def webhook_path(self) -> str:
        """Path that the forge calls; empty without spec.webhook."""
        return hook_path(self.metadata.uid, self.key) if self.spec.webhook else ""

    @property
    def target_namespace(self) -> str:
        return self.spec.target_namespace or self.metadata.namespace


def hook_path(uid: str, key: Key) -> str:
    """Where a repository's forge calls: as hard to guess as the uid, and the same for every secret to come."""
    return f"/hook/{digest.digest('webhook', uid, key.namespace, key.name)}"


def parse(raw: dict[str, Any]) -> FunctionRepository:
    """A FunctionRepository from an API server's or a person's object; raises pydantic.ValidationError."""
    return FunctionRepository.model_validate(raw)
