"""A receiver whose Secret is there."""

from __future__ import annotations

import pytest_asyncio

from tests.unit.receivers.stage import Stage


@pytest_asyncio.fixture
async def stage() -> Stage:
    made = Stage()
    await made.secret()
    return made
