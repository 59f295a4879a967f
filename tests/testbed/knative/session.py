"""The tests of the tier run in a pytest of their own inside the private network namespace.

The outer pytest starts it once, with the very tests that it was going to run, and passes each report on as if
the test had run here: counts, durations, failure texts and `-x` work as everywhere. Reports travel as JSON
lines, by pytest's own serialisation (the one of pytest-xdist). Called by tests/knative/conftest.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.testbed import assets, processes
from tests.testbed.knative import netns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPORTS = "KNATIVE_LAMBDA_TESTBED_REPORTS"
"""Environment variable of the inner pytest: the file that takes its reports."""


def inside() -> bool:
    """Whether this process is the inner pytest."""
    return REPORTS in os.environ


class Inner:
    """The inner pytest, seen from the outer one. `stop` ends it with all that it started."""

    def __init__(self, config: pytest.Config, names: list[str]) -> None:
        self._config = config
        self._names = names
        self._run: processes.Run | None = None
        self._server: processes.Server | None = None
        self._lines: list[str] = []
        self._read = 0

    def reports(self, name: str) -> Iterator[pytest.TestReport]:
        """The reports of one test, as they come in; starts the inner pytest with the first one asked for."""
        if self._server is None:
            self._start()
        while True:
            told = self._next()
            if told is None:
                yield self._died(name)
                return
            if told["nodeid"] != name:
                continue
            report = self._config.hook.pytest_report_from_serializable(config=self._config, data=told)
            yield report
            if report.when == "teardown":
                return

    def stop(self) -> None:
        """End it; what it started ends with it, or by the next sweep when it was stuck."""
        if self._server is not None and self._run is not None:
            self._server.stop(grace=20)
            self._run.end()

    def _start(self) -> None:
        self._run = processes.Run.begin("inner")
        options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(assets.REPOSITORY_ROOT)]
        command = [*netns.command(), sys.executable, "-m", "pytest", *options, *self._names]
        self._server = self._run.start("pytest", command, env={REPORTS: str(self._reports)}, cwd=assets.REPOSITORY_ROOT)

    @property
    def _reports(self) -> Path:
        assert self._run is not None
        return self._run.folder / "reports.jsonl"

    def _next(self) -> dict[str, Any] | None:
        """The next report; None when the inner pytest has ended without it."""
        assert self._server is not None
        while not self._lines:
            running = self._server.running  # asked before reading: what it wrote last is still read
            self._lines = self._fresh()
            if not self._lines and not running:
                return None
            if not self._lines:
                time.sleep(0.05)
        told: dict[str, Any] = json.loads(self._lines.pop(0))
        return told

    def _fresh(self) -> list[str]:
        if not self._reports.exists():
            return []
        with self._reports.open("rb") as stream:
            stream.seek(self._read)
            whole, _, _ = stream.read().rpartition(b"\n")
        self._read += len(whole) + 1 if whole else 0
        return whole.decode().splitlines()

    def _died(self, name: str) -> pytest.TestReport:
        assert self._server is not None
        text = f"the pytest in the network namespace ended with {self._server.returncode}:\n{self._server.tail(60)}"
        path = name.partition("::")[0]
        return pytest.TestReport(name, (path, None, name), {}, "failed", text, "call")


def tell(config: pytest.Config, report: pytest.TestReport) -> None:
    """Write one report of the inner pytest for the outer one."""
    told = config.hook.pytest_report_to_serializable(config=config, report=report)
    with open(os.environ[REPORTS], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(told) + "\n")
