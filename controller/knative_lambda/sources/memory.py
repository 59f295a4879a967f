"""Sources without a network: the twin of resolver.SourceResolver, for local mode and tests."""

from __future__ import annotations

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import GitSource, Source
from knative_lambda.sources import identity
from knative_lambda.sources.base import ANONYMOUS, Credentials, Resolution, SourceError


class MemorySources:
    """Knows the commits that it was told of; `asked` counts the questions that the real one would send out."""

    def __init__(self) -> None:
        self._commits: dict[tuple[str, str], str] = {}
        self._failure: SourceError | None = None
        self.asked = 0

    def push(self, url: str, commit: str, *, ref: str = "HEAD") -> None:
        """That ref of that repository now names this commit."""
        self._commits[url, ref] = commit

    def fail(self, error: SourceError | None) -> None:
        """Every question over the network fails so, until this is called with None."""
        self._failure = error

    async def resolve(self, source: Source, credentials: Credentials = ANONYMOUS) -> Resolution:  # noqa: ARG002 - the port's signature
        found = identity.known(source)
        if found is not None:
            return found
        assert source.git is not None  # known() refused every kind that is not built yet
        return self._ask(source.git)

    def _ask(self, source: GitSource) -> Resolution:
        self.asked += 1
        if self._failure is not None:
            raise self._failure
        ref = source.ref or "HEAD"
        commit = self._commits.get((source.url, ref))
        if commit is None:
            raise SourceError(Reason.REF_NOT_FOUND, f"the remote has no {ref!r}")
        return identity.of_git(source, commit)
