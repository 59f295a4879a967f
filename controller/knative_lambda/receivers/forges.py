"""Every forge, in the order in which they are asked: those that imitate another come before it."""

from __future__ import annotations

from knative_lambda.receivers.base import Forge, Headers
from knative_lambda.receivers.bitbucket import BitbucketCloud
from knative_lambda.receivers.bitbucket_server import BitbucketServer
from knative_lambda.receivers.generic import Generic
from knative_lambda.receivers.gitea import Gitea
from knative_lambda.receivers.github import GitHub
from knative_lambda.receivers.gitlab import GitLab

FORGES: tuple[Forge, ...] = (Gitea(), GitHub(), GitLab(), BitbucketCloud(), BitbucketServer(), Generic())
UNKNOWN = "unknown"
"""Label of deliveries that match none."""


def match(headers: Headers) -> Forge | None:
    """The forge that sends such headers."""
    return next((forge for forge in FORGES if forge.matches(headers)), None)
