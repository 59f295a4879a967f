"""What a build's init container is told, as one environment variable; and the identity of a build.

`encode` is called by reconcile.steps for the Job, `decode` by `kn-lambda build-context` inside it. Inline code travels
in it too, which saves a ConfigMap and its write.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import zlib

import orjson
from pydantic import Field, ValidationError

from knative_lambda.api.function import LambdaFunction, Runtime, Source
from knative_lambda.api.meta import Key, Model
from knative_lambda.kit import digest

VARIABLE = "BUILD_REQUEST"
"""Name of the environment variable."""
ENCODED_LIMIT = 120_000
"""Bytes; the kernel takes 131,072 for one variable with its name."""
DECODED_LIMIT = 1_048_576
"""Bytes; far above what an object in etcd can hold."""
EXIT_REFUSED = 65
"""Exit code of `kn-lambda build-context` when trying again cannot help: the Job fails without its retries."""
WORKSPACE = "/workspace"
"""The build context in both containers; `kn-lambda build-context` writes Dockerfile, shim and code here."""
CREDENTIALS = "/var/run/source-credentials"
"""Where the init container finds the source's Secret, one file per key."""
_GZIP = 16
"""Added to the size of zlib's window, makes it write gzip's header, without a time."""


class BuildRequestError(ValueError):
    """A build request that is too big or not readable; the message is safe to show."""


class BuildRequest(Model):
    """Everything that the build context is made of."""

    namespace: str = Field(max_length=63)
    name: str = Field(max_length=63)
    source: Source
    runtime: Runtime
    revision: str = Field(default="", max_length=256)
    """What the source was resolved to: the commit or object version that must be fetched."""

    @property
    def function(self) -> Key:
        return Key(self.namespace, self.name)


def of(fn: LambdaFunction, *, runtime: Runtime, revision: str) -> BuildRequest:
    """The request of a function whose source was resolved to `revision`; a git source is pinned to it."""
    source = fn.spec.source
    if source.git is not None and source.git.commit is None and revision:
        source = source.model_copy(update={"git": source.git.model_copy(update={"commit": revision})})
    return BuildRequest(
        namespace=fn.metadata.namespace, name=fn.metadata.name, source=source, runtime=runtime, revision=revision
    )


def identity(
    fn: LambdaFunction, *, runtime: Runtime, source_digest: str, builder_version: str, repository: str, rebuild: str
) -> str:
    """64 hex characters over all that decides which image comes out and where it goes; `rebuild` is a user's nonce."""
    return digest.digest(
        "build",
        fn.metadata.namespace,
        fn.metadata.name,
        source_digest,
        runtime.language.value,
        runtime.release(),
        list(runtime.entrypoint()),
        builder_version,
        repository,
        rebuild,
    )


def encode(request: BuildRequest) -> str:
    """base64 of gzip of canonical JSON, the same for the same request; BuildRequestError when it is too big."""
    plain = digest.canonical(request.model_dump(mode="json", by_alias=True, exclude_none=True))
    encoded = base64.b64encode(_packed(plain)).decode()
    if len(encoded) > ENCODED_LIMIT:
        raise BuildRequestError(
            f"code and dependencies take {len(encoded)} bytes packed, more than the {ENCODED_LIMIT} that a build can"
            " carry; move them into a git repository"
        )
    return encoded


def _packed(plain: bytes) -> bytes:
    """gzip, with tables as small as the text: zlib clears them for every text, by default 256 KiB of them."""
    window = min(zlib.MAX_WBITS, max(9, len(plain).bit_length()))
    packer = zlib.compressobj(wbits=_GZIP + window, memLevel=min(zlib.DEF_MEM_LEVEL, window - 6))
    return packer.compress(plain) + packer.flush()


def decode(encoded: str) -> BuildRequest:
    """The request as it was encoded; BuildRequestError when it is not one of ours."""
    try:
        packed = base64.b64decode(encoded, validate=True)
        with gzip.open(io.BytesIO(packed)) as stream:
            plain = stream.read(DECODED_LIMIT + 1)
        if len(plain) > DECODED_LIMIT:
            raise BuildRequestError(f"the build request unpacks to more than {DECODED_LIMIT} bytes")
        return BuildRequest.model_validate(orjson.loads(plain))
    except (binascii.Error, OSError, EOFError, zlib.error, orjson.JSONDecodeError, ValidationError) as error:
        raise BuildRequestError(f"the build request cannot be read: {type(error).__name__}") from error
