"""Leader election by a Lease: at most one process leads, also when its API server hangs or its loop stalls.

Whoever leads stops writing `renew_deadline` seconds after the start of its last successful renewal. Whoever follows
takes over once it has seen the record unchanged for the lease's duration, which is longer. Both measure with their
own monotonic clock; the times inside the record are for people.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import AlreadyExists, Cluster, ClusterError, Conflict, NotFound, Object
from knative_lambda.kit import redact
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.timing import TICK, micro_time, within

T = TypeVar("T")

CALLS_PER_DEADLINE = 3
"""A call may take this part of the renew deadline, so that one that hangs leaves time for others."""
JITTER = 1.2
"""Followers wait up to this factor of the retry period, so that they do not ask in step."""

log = structlog.get_logger(__name__)


class Election:
    """One candidate for one Lease. Made by wiring with the unfenced cluster; `run` is one of its long tasks."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        clock: Clock,
        namespace: str,
        name: str,
        identity: str,
        duration: float = 15,
        renew_deadline: float = 10,
        retry_period: float = 2,
    ) -> None:
        """`identity` must be unique to this process. ValueError unless retry period < renew deadline < duration."""
        if not 0 < retry_period < renew_deadline < duration:
            given = f"{retry_period}, {renew_deadline}, {duration}"
            raise ValueError(f"a lease needs retry period < renew deadline < duration; got {given}")
        self.identity = identity
        self._cluster = cluster
        self._clock = clock
        self._key = Key(namespace, name)
        self._duration = duration
        self._renew_deadline = renew_deadline
        self._retry_period = retry_period
        self._leading = False
        self._renewed_at = -math.inf
        self._lease: Object | None = None
        self._changed_at = 0.0
        self._current = False
        self._complaint = ""

    @property
    def is_leader(self) -> bool:
        return self._leading

    @property
    def holder(self) -> str:
        """Identity in the record as last seen; empty when nobody holds it or it was never read."""
        return _holder(self._lease)

    def may_write(self) -> bool:
        """Whether no other process can be leading now. Asked before every write."""
        return self._leading and self._clock.monotonic() < self._renewed_at + self._renew_deadline

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Leads and follows in turns until cancelled, or until `lead` ends by itself; raises what `lead` raised.

        `lead` is cancelled when leadership is lost, and when `run` is; in the second case it keeps the lease, and so
        may write, until it has ended. Then the lease is given back.
        """
        while True:
            await self._campaign()
            log.info("leading", lease=str(self._key), identity=self.identity)
            if await self._hold(lead):
                return
            log.warning("leadership lost", lease=str(self._key), identity=self.identity, holder=self.holder)

    async def _campaign(self) -> None:
        """Returns once the lease is ours."""
        while not await self._attempt():
            await self._clock.sleep(self._retry_period * random.uniform(1, JITTER))  # noqa: S311 - spreads load
        self._leading = True

    async def _hold(self, lead: Callable[[], Awaitable[None]]) -> bool:
        """Runs `lead` while the lease is renewed; whether it ended by itself."""
        leading = asyncio.ensure_future(lead())
        renewing = asyncio.create_task(self._keep(), name="renew lease")
        ended = False
        try:
            await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
            ended = leading.done()
        finally:
            await _end(leading, tell=not ended)
            await _end(renewing, tell=True)
            await self._release()
        if ended:
            leading.result()
        return ended

    async def _keep(self) -> None:
        """Renews, and returns when the lease is lost."""
        while self.may_write():
            await self._clock.sleep(min(self._retry_period, self._time_left()))
            if self.may_write() and not await self._attempt() and self.holder != self.identity:
                break
        self._leading = False

    def _time_left(self) -> float:
        return max(TICK, self._renewed_at + self._renew_deadline - self._clock.monotonic())

    # One attempt to acquire or renew.

    async def _attempt(self) -> bool:
        """Whether the lease is ours for another duration. Failures of the API server are told once and are a no."""
        try:
            held = await self._claim()
        except (ClusterError, TimeoutError) as error:
            self._complain(redact.text(str(error)) or "no answer in time")
            return False
        self._complaint = ""
        return held

    async def _claim(self) -> bool:
        current, self._current = self._current, False
        if not current:
            self._see(await self._read())
        if not self._is_free():
            return False
        started = self._clock.monotonic()
        try:
            lease = await self._write(self._record())
        except (AlreadyExists, Conflict):
            return False
        self._see(lease)
        self._current = True
        self._renewed_at = started
        return True

    def _is_free(self) -> bool:
        if self.holder in ("", self.identity):
            return True
        seconds = _spec(self._lease).get("leaseDurationSeconds") or self._duration
        return self._clock.monotonic() >= self._changed_at + seconds

    def _see(self, lease: Object | None) -> None:
        """Remembers the record, and when it changed as far as we can tell."""
        if lease is None or self._lease is None or _spec(lease) != _spec(self._lease):
            self._changed_at = self._clock.monotonic()
        self._lease = lease

    def _record(self) -> Object:
        """The Lease with us as its holder."""
        now = micro_time(self._clock.now())
        before = _spec(self._lease)
        ours = self.holder == self.identity
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._duration),
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if ours or self._lease is None else 1),
        }
        return self._with_spec(spec)

    def _with_spec(self, spec: Object) -> Object:
        if self._lease is not None:
            return {**self._lease, "spec": spec}
        metadata = {"namespace": self._key.namespace, "name": self._key.name}
        return {
            "apiVersion": kinds.LEASE.api_version,
            "kind": kinds.LEASE.kind,
            "metadata": metadata,
            "spec": spec,
        }

    async def _release(self) -> None:
        """Gives the lease back, so that a follower takes over at once; without an answer it expires by itself."""
        if not self._leading:
            return
        self._leading = False
        try:
            if not self._current:  # the last renewal failed or was cut off: it may have been written
                self._see(await self._read())
            if self._lease is not None and self.holder == self.identity:
                self._see(await self._limited(self._cluster.replace(kinds.LEASE, self._freed())))
        except (ClusterError, TimeoutError) as error:
            log.info(
                "lease not given back", lease=str(self._key), reason=redact.text(str(error)) or "no answer in time"
            )
        self._current = False

    def _freed(self) -> Object:
        """The Lease without a holder."""
        now = micro_time(self._clock.now())
        transitions = _spec(self._lease).get("leaseTransitions", 0)
        spec = {"leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now, "leaseTransitions": transitions}
        return self._with_spec(spec)

    # Calls.

    async def _read(self) -> Object | None:
        try:
            return await self._limited(self._cluster.get(kinds.LEASE, self._key))
        except NotFound:
            return None

    async def _write(self, lease: Object) -> Object:
        if self._lease is None:
            return await self._limited(self._cluster.create(kinds.LEASE, lease))
        return await self._limited(self._cluster.replace(kinds.LEASE, lease))

    async def _limited(self, call: Awaitable[T]) -> T:
        return await within(self._clock, self._call_limit(), call)

    def _call_limit(self) -> float:
        """Seconds for one call; a leader's call never outlives its right to write."""
        limit = self._renew_deadline / CALLS_PER_DEADLINE
        return min(limit, self._time_left()) if self._leading else limit

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            self._complaint = reason
            log.warning("lease cannot be read or written", lease=str(self._key), leading=self._leading, reason=reason)


async def _end(task: asyncio.Future[None], *, tell: bool) -> None:
    """Cancels a task and waits for its end; `tell` logs the error it ended with, if nobody else will raise it."""
    task.cancel()
    await asyncio.wait({task})
    if tell and not task.cancelled() and task.exception() is not None:
        log.error("ended badly", error=redact.text(repr(task.exception())))


def _spec(lease: Object | None) -> Object:
    spec: Object = (lease or {}).get("spec") or {}
    return spec


def _holder(lease: Object | None) -> str:
    holder: str = _spec(lease).get("holderIdentity") or ""
    return holder
