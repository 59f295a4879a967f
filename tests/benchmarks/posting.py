"""Many POSTs at once, to whoever must say 202 to each. Called by the benchmarks of sinks and brokers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import aiohttp

CONNECTIONS = 32


async def accepted_per_second(url: str, body: bytes, headers: Mapping[str, str], *, count: int) -> float:
    """Raises RuntimeError when one of them was not accepted."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def one() -> int:
            async with session.post(url, data=body, headers=headers) as answer:
                return answer.status

        began = time.monotonic()
        statuses = await asyncio.gather(*(one() for _ in range(count)))
        seconds = time.monotonic() - began
    if set(statuses) != {202}:
        raise RuntimeError(f"{url} answered {sorted(set(statuses))}")
    return count / seconds
