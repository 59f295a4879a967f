"""Real git repositories in a temporary directory, served by git's own file protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from knative_lambda.gitsync.checkout import GitCheckout
from tests.unit.gitsync.repositories import AnyAddress, Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "origin")


@pytest_asyncio.fixture
async def checkout(tmp_path: Path) -> AsyncIterator[GitCheckout]:
    made = GitCheckout(tmp_path / "mirrors", policy=AnyAddress(), protocols=("https", "http", "ssh", "file"))
    yield made
    await made.close()
