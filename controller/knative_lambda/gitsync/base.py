"""The port to remote repositories. `checkout` speaks git, `memory` is its twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from knative_lambda.api.repository import Ref
from knative_lambda.gitsync.tree import Tree
from knative_lambda.sources.base import ANONYMOUS, Credentials

T = TypeVar("T")
HEAD = Ref()
"""The branch that the remote calls its default."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Which repository, which ref of it, and with whose credentials."""

    url: str
    ref: Ref = HEAD
    credentials: Credentials = ANONYMOUS
    seconds: float = 60.0
    """Limit of one command."""

    @property
    def ref_name(self) -> str:
        """The ref as people name it."""
        return self.ref.branch or self.ref.tag or self.ref.commit or "HEAD"

    def revision(self, commit: str) -> str:
        """ref@commit, as it stands in status."""
        return commit if self.ref.commit else f"{self.ref_name}@{commit}"


class Checkout(Protocol):
    """Commits of remote repositories. Every call is bounded in time and raises SourceError only."""

    async def ls_remote(self, remote: Remote) -> str:
        """The commit that the ref names now. An absent ref is an error, never the default branch."""
        ...

    async def fetch(self, remote: Remote, commit: str) -> str:
        """Brings that commit here; nothing to do when it is. Returns the commit that came.

        That is another one when the server gives out only what a ref names, and the ref has moved meanwhile.
        """
        ...

    async def inspect(self, remote: Remote, commit: str, look: Callable[[Tree], T]) -> T:
        """What `look` finds in a commit that was fetched. It runs in a worker thread; the tree ends with it."""
        ...

    async def verify(self, remote: Remote, commit: str, allowed_signers: str) -> None:
        """Returns when the commit is signed by one of the keys (format of ssh-keygen); UNVERIFIED otherwise."""
        ...
