"""A page with everything that it needs, on a clock that the test moves."""

from __future__ import annotations

from collections import Counter

from prometheus_client import parser

from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.store import Store
from knative_lambda.resources.observed import JobSeen, ServiceSeen
from knative_lambda.web.figures import Figures, View
from knative_lambda.web.metrics import Metrics
from knative_lambda.web.page import Form, Page
from knative_lambda.web.watcher import Watcher

Labels = dict[str, str]


class Desk:
    """Metrics, watcher and page of one process; `leads` and `synced` are the test's to change."""

    def __init__(self, *, functions: int = 1000) -> None:
        self.clock = ManualClock()
        self.leads = True
        self.synced = True
        self.services: Store[ServiceSeen] = Store()
        self.jobs: Store[JobSeen] = Store()
        self.deliveries: Counter[tuple[str, str]] = Counter()
        self.metrics = Metrics(clock=self.clock, functions=functions)
        self.watcher = Watcher(self.metrics, clock=self.clock, leads=lambda: self.leads, synced=lambda: self.synced)
        view = View(self.services, self.jobs, lambda: self.watcher.outbox, lambda: self.leads, self.deliveries)
        self.page = Page(self.metrics, Figures(view, self.metrics), clock=self.clock)

    async def text(self) -> str:
        """The plain page as it is now."""
        await self.clock.advance(2)
        return (await self.page.render(Form())).decode()

    async def samples(self, name: str) -> list[tuple[Labels, float]]:
        """Every sample of that name."""
        families = parser.text_string_to_metric_families(await self.text())
        return [(one.labels, one.value) for family in families for one in family.samples if one.name == name]

    async def value(self, name: str, **labels: str) -> float | None:
        """The one sample that has these labels among its own; None when there is none."""
        found = [value for own, value in await self.samples(name) if labels.items() <= own.items()]
        assert len(found) <= 1, f"{labels} are not unique: {found}"
        return found[0] if found else None

    def reconcile(self, key: Key, result: str = "success", seconds: float = 0.2) -> None:
        self.watcher.reconciled(key, result, seconds)
