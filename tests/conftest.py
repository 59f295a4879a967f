"""What every tier shares: the test bed's fixtures, and a closing count of what ran where and what was skipped."""

from __future__ import annotations

import functools
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ("tests.testbed.fixtures",)

ROOT = Path(__file__).parent
TIERS = ("unit", "scenarios", "contract", "local", "testbed", "apiserver", "chart", "knative")
FIXED_PORT = "topology_operator"
"""Fixture of a server that cannot be told its port."""


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that is run in this process configures logs; later tests would capture none that it made to be kept."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tiers first: a broken unit should not wait for servers."""
    items.sort(key=lambda item: TIERS.index(_tier(item.path)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """With `-n`, a file's tests share a process, for they share fixtures."""
    return FilesTogether(config, log)


class FilesTogether(LoadScopeScheduling):
    """What needs a fixed port, or the one network namespace, shares a process as well."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid.partition("::")[0])


@functools.cache
def scope(file: str) -> str:
    """Files with the same answer run one after the other."""
    path = ROOT.parent / file
    if _tier(path) == "knative":
        return "knative"
    return FIXED_PORT if FIXED_PORT in path.read_text() else file


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of tiers; skipped tests are named with their reasons, loudly."""
    ran: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    skipped: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            tier = _tier(ROOT.parent / report.nodeid.split("::")[0])
            seconds[tier] += getattr(report, "duration", 0.0)  # what could not be collected has none
            if outcome == "skipped":
                skipped[tier][_reason(report)] += 1
            else:
                ran[tier] += 1
    terminalreporter.write_sep("=", "tiers")
    for tier in TIERS:
        if ran[tier] or skipped[tier]:
            count = sum(skipped[tier].values())
            terminalreporter.write_line(f"{tier:10} {ran[tier]:5} ran {count:5} skipped {seconds[tier]:8.1f} s")
    for tier in TIERS:
        for reason, count in skipped[tier].items():
            terminalreporter.write_line(f"SKIPPED {count} of tier {tier}: {reason}", red=True, bold=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI nothing may be skipped: what cannot be had there is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _tier(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0] if path.is_relative_to(ROOT) else "unit"
    return first if first in TIERS else "unit"


def _reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    return str(where[2] if isinstance(where, tuple) else where).removeprefix("Skipped: ")
