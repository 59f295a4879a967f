"""Renders /metrics, the larger part in another thread: with a thousand functions it is ten megabytes."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics

from knative_lambda.kit.clock import Clock
from knative_lambda.web.figures import CPU_SECONDS, Figures
from knative_lambda.web.metrics import Metrics
from knative_lambda.web.series import Family, heading, write

FRESH = 1.0
"""Seconds that a rendered page serves everybody who asks."""
GZIP_LEVEL = 3

Blocks = Sequence[tuple[Family[Any], Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Form:
    """How a scraper wants the page."""

    openmetrics: bool = False
    gzip: bool = False

    @property
    def content_type(self) -> str:
        return openmetrics.CONTENT_TYPE_LATEST if self.openmetrics else exposition.CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, slots=True)
class _Rendered:
    at: float
    body: bytes


def negotiate(accept: str, accept_encoding: str) -> Form:
    """From the request's headers; OpenMetrics for whoever knows it."""
    return Form("application/openmetrics-text" in accept.lower(), "gzip" in accept_encoding.lower())


class Page:
    """One page per form, rendered for one scraper at a time."""

    def __init__(self, metrics: Metrics, figures: Figures, *, clock: Clock) -> None:
        self._metrics = metrics
        self._figures = figures
        self._clock = clock
        self._rendered: dict[Form, _Rendered] = {}
        self._lock = asyncio.Lock()
        metrics.registry.register(figures)

    async def render(self, form: Form) -> bytes:
        """The page's bytes, compressed if the form says so."""
        async with self._lock:
            latest = self._rendered.get(form)
            if latest is not None and self._clock.monotonic() - latest.at < FRESH:
                return latest.body
            body = await self._written(form)
            self._rendered[form] = _Rendered(self._clock.monotonic(), body)
            return body

    async def _written(self, form: Form) -> bytes:
        series = self._metrics.series
        series.sweep()
        series.keep(await asyncio.to_thread(write, series.touched()))
        self._figures.look()
        return await asyncio.to_thread(_render, series.blocks(), self._metrics.registry, form)


def _render(blocks: Blocks, registry: CollectorRegistry, form: Form) -> bytes:
    parts = [(heading(family, openmetrics=form.openmetrics), *texts) for family, texts in blocks]
    functions = "".join(itertools.chain.from_iterable(parts)).encode()
    body = functions + (_openmetrics(registry) if form.openmetrics else _plain(registry))
    return gzip.compress(body, GZIP_LEVEL) if form.gzip else body


def _openmetrics(registry: CollectorRegistry) -> bytes:
    """Ends with the EOF that a page must end with."""
    body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
    return body


def _plain(registry: CollectorRegistry) -> bytes:
    """prometheus_client ends the name of every counter with _total, which one name of the design document does not:

    OpenMetrics knows no such counter and says `unknown`, the plain format can say it.
    """
    body = exposition.generate_latest(registry)
    return body.replace(f"# TYPE {CPU_SECONDS} untyped".encode(), f"# TYPE {CPU_SECONDS} counter".encode())
