"""Turns many requests for a look at one repository into few: at once, then at most one per pause, never none.

`ask` is called by reception and never waits; `run` is a service of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import ClusterError, NotFound
from knative_lambda.kit import redact
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import Clock

PAUSE = 0.5
"""Seconds between two requests for the same repository."""
RETRIES = Backoff(base=0.2, cap=30.0)

log = structlog.get_logger(__name__)


class Looks:
    """`request` marks a repository or asks another replica to; it may fail and is then tried again."""

    def __init__(self, request: Callable[[Key], Awaitable[None]], *, clock: Clock, pause: float = PAUSE) -> None:
        self.asked = 0
        """Requests that came in, ever."""
        self.requested = 0
        """Requests that went out, ever."""
        self._request = request
        self._clock = clock
        self._pause = pause
        self._wanted: dict[Key, None] = {}
        """Asked for, and not requested since."""
        self._busy: set[Key] = set()
        self._work = asyncio.Event()

    def ask(self, key: Key) -> None:
        """Asks for a look that begins after now."""
        self.asked += 1
        self._wanted[key] = None
        if key not in self._busy:
            self._work.set()

    async def run(self) -> None:
        """Until cancelled; call `drain` afterwards."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._work.wait()
                self._work.clear()
                for key in [key for key in self._wanted if key not in self._busy]:
                    self._busy.add(key)
                    group.create_task(self._serve(key), name=f"looks {key}")

    async def drain(self) -> None:
        """One last try for what waits."""
        for key in list(self._wanted):
            await self._try(key)

    async def _serve(self, key: Key) -> None:
        """Requests once at once, and again after each pause in which somebody asked."""
        failures = 0
        try:
            while key in self._wanted:
                failures = 0 if await self._try(key) else failures + 1
                await self._clock.sleep(RETRIES.delay(failures - 1) if failures else self._pause)
        finally:
            self._busy.discard(key)

    async def _try(self, key: Key) -> bool:
        """Whether it was requested, or need not be any more. What is asked meanwhile is asked anew."""
        del self._wanted[key]
        try:
            await self._request(key)
        except NotFound:
            return True
        except ClusterError as error:
            self._wanted[key] = None
            log.warning("look not requested yet", repository=str(key), error=redact.text(error.message))
            return False
        except asyncio.CancelledError:
            self._wanted[key] = None
            raise
        self.requested += 1
        return True
