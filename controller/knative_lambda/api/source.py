"""Where a function's code comes from: one model per kind of source. Part of LambdaFunction's spec."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from knative_lambda.api.fields import Bucket, Commit, GitUrl, ObjectName, RefName, RepoPath, SecretRef, rule
from knative_lambda.api.meta import Model

KEYS_REFUSED = (
    "credentials do not belong in a spec, which everybody can read: put accessKey and secretKey into a Secret"
    " and name it in secretRef"
)


class SourceType(StrEnum):
    """Where the code comes from."""

    MINIO = "minio"
    S3 = "s3"
    GCS = "gcs"
    GIT = "git"
    INLINE = "inline"
    IMAGE = "image"


class _KeysBelongInSecret(Model):
    """Object stores: the two fields of the design document that would lay credentials open are refused by name."""

    model_config = ConfigDict(json_schema_extra=rule("!has(self.accessKey) && !has(self.secretKey)", KEYS_REFUSED))

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
    """Bucket that holds the object."""
    key: ObjectName
    """Name of the object in the bucket."""
    secure: bool = False
    """Whether the endpoint speaks TLS."""


class S3Source(_KeysBelongInSecret):
    """An object in AWS S3: a .zip, .tar.gz or a single source file."""

    bucket: Bucket
    """Bucket that holds the object."""
    key: ObjectName
    """Name of the object in the bucket."""
    region: str = Field(default="us-east-1", min_length=1, max_length=64)
    """AWS region of the bucket."""


class GcsSource(Model):
    """An object in Google Cloud Storage: a .zip, .tar.gz or a single source file."""

    bucket: Bucket
    """Bucket that holds the object."""
    key: ObjectName
    """Name of the object in the bucket."""
    project: str | None = Field(default=None, max_length=64)
    """Google Cloud project that is billed for the read; the bucket's own when not given."""
    secret_ref: SecretRef | None = None
    """Secret with the key credentials.json; without it workload identity is used."""


class GitSource(Model):
    """A directory of a git repository."""

    url: GitUrl
    """https:// or ssh:// address; credentials go into secretRef."""
    ref: RefName | None = None
    """Branch, tag or commit; the remote's HEAD when not given. An absent ref is an error, never the default branch."""
    commit: Commit | None = None
    """Pins the content; filled in by a FunctionRepository."""
    path: RepoPath = ""
    """Directory below the root of the repository."""
    secret_ref: SecretRef | None = None
    """Secret with username and password, or with identity and known_hosts."""


class InlineSource(Model):
    """Code in the object itself, for the small and the first."""

    code: str = Field(min_length=1, max_length=65536)
    """Text of the handler's file."""
    dependencies: str = Field(default="", max_length=16384)
    """Text of requirements.txt, package.json or go.mod."""


class ImageSource(Model):
    """A ready image: nothing is built."""

    uri: str = Field(min_length=1, max_length=512, pattern=r"^[a-z0-9][A-Za-z0-9._:/@-]*$")
    """Image, best by digest (ghcr.io/me/hello@sha256:…); it must listen on $PORT."""


_MEMBERS = tuple(kind.value for kind in SourceType)


class Source(Model):
    """Where the code comes from: exactly the member that `type` names is set."""

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
    """Which of the members below holds the code."""
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
