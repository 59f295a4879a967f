"""Whether this process can do its work, part by part: what /readyz answers from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Cluster, ClusterError, TooManyRequests, Unavailable
from knative_lambda.events.base import Bus
from knative_lambda.kit import redact
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.informer import Informer
from knative_lambda.machinery.timing import within

PATIENCE = 0.8
"""Seconds for the API server's answer; a kubelet waits one second for ours."""
FRESH = 2.0
"""Seconds that an answer of the API server counts."""


class ApiServer:
    """Asks the API server for the Lease, on the lane that no rate limit holds up. Any answer will do, also a 404."""

    def __init__(self, cluster: Cluster, lease: Key, *, clock: Clock) -> None:
        self._cluster = cluster
        self._lease = lease
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked_at: float | None = None
        self._problem = ""

    async def problem(self) -> str:
        """Why it does not answer; empty when it does."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._asked_at is None or now - self._asked_at >= FRESH:
                self._problem = await self._ask()
                self._asked_at = self._clock.monotonic()
            return self._problem

    async def _ask(self) -> str:
        try:
            await within(self._clock, PATIENCE, self._cluster.get(kinds.LEASE, self._lease))
        except TimeoutError:
            return f"no answer within {PATIENCE:g} s"
        except (Unavailable, TooManyRequests) as error:
            return redact.text(str(error))
        except ClusterError:
            return ""
        return ""


@dataclass(frozen=True, slots=True)
class Report:
    """The answer of /readyz."""

    is_ready: bool
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready is who has full caches and an API server that answers, whether it leads or stands by.

    RabbitMQ is shown and does not count: events wait in the status until it is back, and a process that is taken out
    of its Service because of RabbitMQ would lose webhooks, too.
    """

    informers: Sequence[Informer[Any]]
    api_server: ApiServer
    bus: Bus
    leads: Callable[[], bool]
    is_stopping: Callable[[], bool]

    async def report(self) -> Report:
        """Asks for everything now."""
        filling = sorted(str(one.kind) for one in self.informers if not one.synced)
        missing = sorted(str(one.kind) for one in self.informers if one.synced and not one.installed)
        problem = await self.api_server.problem()
        is_ready = not filling and not problem and not self.is_stopping()
        body = {
            "ready": is_ready,
            "role": "leader" if self.leads() else "standby",
            "stopping": self.is_stopping(),
            "caches": {"synced": not filling, "filling": filling, "notInstalled": missing},
            "apiServer": {"answers": not problem, "problem": problem},
            "rabbitmq": {"connected": self.bus.connected, "problem": self.bus.problem},
        }
        return Report(is_ready, body)
