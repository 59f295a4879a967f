"""Texts that several models share, each with its limits and the rule that Python and the API server both check.

A rule that JSON Schema cannot say is a pair: CEL (`x-kubernetes-validations`) for the API server, a validator here.
Field stands before the validators, or pydantic leaves its limits out of the schema.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from knative_lambda.api.meta import Model
from knative_lambda.kit import duration

QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
COMMIT_PATTERN = r"^[0-9a-f]{40}([0-9a-f]{24})?$"
REF_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._/+@-]*$"
URL_PATTERN = r"^(https?|ssh)://[^\s]+$"

_CREDENTIALS = "^(https?://[^/]*@|ssh://[^/@]*:[^/@]*@)"
_OUTSIDE = r"^[/-]|[\\]|(^|/)[.][.](/|$)"

CREDENTIALS_REFUSED = (
    "credentials do not belong in a URL; put username and password into a Secret and name it in secretRef"
)
OUTSIDE_REFUSED = "a path must not leave the repository: write a relative path without '..'"


def rule(cel: str, message: str) -> dict[str, Any]:
    """One CEL rule, as json_schema_extra takes it."""
    return {"x-kubernetes-validations": [{"rule": cel, "message": message}]}


def within(shortest: str, longest: str) -> dict[str, Any]:
    """The CEL rule of a duration with bounds."""
    return rule(
        f"duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}')",
        f"write a duration between {shortest} and {longest}",
    )


def check_within(text: str, shortest: str, longest: str) -> str:
    """What `within` says, for a field validator."""
    if not duration.parse(shortest) <= duration.parse(text) <= duration.parse(longest):
        raise ValueError(f"{text!r} is out of bounds: write a duration between {shortest} and {longest}")
    return text


def _without_credentials(url: str) -> str:
    if re.search(_CREDENTIALS, url):
        raise ValueError(CREDENTIALS_REFUSED)
    return url


def _inside(path: str) -> str:
    if re.search(_OUTSIDE, path):
        raise ValueError(f"{path!r}: {OUTSIDE_REFUSED}")
    return path.rstrip("/")


def _as_text(value: Any) -> Any:
    """An API server takes `cpu: 1` for `cpu: "1"`, but not `cpu: 0.5`, for int-or-string is all that a CRD can say."""
    if isinstance(value, float):
        # pydantic makes findings of ValueErrors only
        raise ValueError(f'write a fraction as text, "{value}", or with a unit, such as 500m')  # noqa: TRY004
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Name = Annotated[str, Field(min_length=1, max_length=253)]
ObjectName = Annotated[str, Field(min_length=1, max_length=1024)]
Bucket = Annotated[str, Field(min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9._-]*[a-z0-9]$")]
Duration = Annotated[str, Field(min_length=2, max_length=16, pattern=duration.PATTERN)]
Quantity = Annotated[
    str,
    Field(max_length=32, pattern=QUANTITY_PATTERN, json_schema_extra={"x-quantity": True}),
    BeforeValidator(_as_text),
]
RefName = Annotated[str, Field(min_length=1, max_length=255, pattern=REF_PATTERN)]
Commit = Annotated[str, Field(max_length=64, pattern=COMMIT_PATTERN)]
GitUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        pattern=URL_PATTERN,
        json_schema_extra=rule(f"!self.matches('{_CREDENTIALS}')", CREDENTIALS_REFUSED),
    ),
    AfterValidator(_without_credentials),
]
RepoPath = Annotated[
    str,
    Field(
        max_length=1024,
        json_schema_extra=rule("!self.matches('" + _OUTSIDE.replace("\\", "\\\\") + "')", OUTSIDE_REFUSED),
    ),
    AfterValidator(_inside),
]


class SecretRef(Model):
    """A Secret in the function's namespace."""

    name: Name
    """Name of the Secret."""
