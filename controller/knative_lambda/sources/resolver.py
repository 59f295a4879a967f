"""Resolves any source, each kind in its own way. Made by wiring; called by reconcile."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from knative_lambda.api.function import GitSource, Source
from knative_lambda.sources import git, identity
from knative_lambda.sources.base import ANONYMOUS, Credentials, Resolution
from knative_lambda.sources.dial import DialPolicy


class SourceResolver:
    """The port's adapter: git is asked in a bounded pool of threads, the rest is known without asking."""

    def __init__(self, policy: DialPolicy, *, workers: int = 4, seconds: float = 30.0) -> None:
        """`seconds` bounds one question to a remote."""
        self._remote = git.GitRemote(policy, seconds=seconds)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="source")

    async def resolve(self, source: Source, credentials: Credentials = ANONYMOUS) -> Resolution:
        found = identity.known(source)
        if found is not None:
            return found
        assert source.git is not None  # known() refused every kind that is not built yet
        return await self._ask(source.git, credentials)

    async def close(self) -> None:
        """Ends running questions; those who wait for them get a SourceError."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._remote.close()
        await asyncio.to_thread(self._pool.shutdown, wait=True)

    async def _ask(self, source: GitSource, credentials: Credentials) -> Resolution:
        loop = asyncio.get_running_loop()
        commit = await loop.run_in_executor(self._pool, self._remote.commit_of, source, credentials)
        return identity.of_git(source, commit)
