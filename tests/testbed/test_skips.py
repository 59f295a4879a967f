"""What this machine cannot run is skipped loudly, and is a failure in CI: a whole tier, run where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed import assets, fixtures

TEST = "tests/knative/test_namespace.py"


def run_without_programs(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest with a PATH on which there is nothing, as on a machine without network namespaces."""
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST],
        cwd=assets.REPOSITORY_ROOT, env=kept | {"PATH": str(folder), **environment},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_tier_that_cannot_run_is_skipped_with_its_number_and_reason(tmp_path: Path) -> None:
    done = run_without_programs(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "knative        0 ran     1 skipped" in done.stdout
    assert "SKIPPED 1 of tier knative: test bed: no `unshare` here" in done.stdout


def test_in_ci_it_is_a_failure(tmp_path: Path) -> None:
    done = run_without_programs(tmp_path, CI="true")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CI is set, and the test bed is not available: no `unshare` here" in done.stdout


def test_whoever_gives_up_skips_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="test bed: no Go"):
        fixtures.give_up("no Go")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Go"):
        fixtures.give_up("no Go")
