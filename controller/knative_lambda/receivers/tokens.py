"""The secret of each webhook, read from the API server and kept for seconds: a rotated one works without a restart.

Called by reception. No Secret is in any informer's cache, so that no other is ever read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass

import structlog

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Cluster, ClusterError, NotFound, Object
from knative_lambda.kit.clock import Clock

TOKEN_KEY = "token"  # noqa: S105 - name of a Secret's key, no secret
SECONDS = 10.0
"""An old token is good for so long after the Secret has a new one."""
ABSENT_SECONDS = 2.0
"""So long is remembered that there is none."""
LIMIT = 4096

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    token: bytes | None
    until: float


class Tokens:
    """At most one read in flight per Secret. For the loop's thread."""

    def __init__(self, cluster: Cluster, *, clock: Clock, seconds: float = SECONDS) -> None:
        self._cluster = cluster
        self._clock = clock
        self._seconds = seconds
        self._kept: dict[Key, _Kept] = {}
        self._reading: dict[Key, asyncio.Task[bytes | None]] = {}

    async def get(self, key: Key) -> bytes | None:
        """The token, or None where the Secret, its key or the API server is not there."""
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() < kept.until:
            return kept.token
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.create_task(self._read(key), name=f"webhook secret {key}")
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)

    async def _read(self, key: Key) -> bytes | None:
        began = self._clock.monotonic()
        try:
            token = _token(await self._cluster.get(kinds.SECRET, key))
        except NotFound:
            token = None
        except ClusterError as error:
            log.warning("webhook secret not readable", secret=str(key), error=error.message)
            token = None
        if len(self._kept) >= LIMIT:
            self._kept = {one: kept for one, kept in self._kept.items() if kept.until > began}
        self._kept[key] = _Kept(token, began + (ABSENT_SECONDS if token is None else self._seconds))
        return token


def _token(secret: Object) -> bytes | None:
    """Without the line break that an editor leaves at the end of a file; an empty token is none."""
    text = (secret.get("data") or {}).get(TOKEN_KEY, "")
    try:
        token = base64.b64decode(text, validate=True).rstrip(b"\r\n")
    except (binascii.Error, ValueError):
        return None
    return token or None
