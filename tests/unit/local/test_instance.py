"""What a start does in threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from knative_lambda.local.serving import instance


async def test_work_in_a_thread_is_over_before_who_was_cancelled_cleans_up() -> None:
    """Else a folder would be made after it was removed."""
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go_on.wait(20)
        done.append("made")

    starting = asyncio.create_task(instance._to_its_end(work))
    await asyncio.to_thread(begun.wait, 20)
    starting.cancel()
    await asyncio.sleep(0.05)
    assert not starting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert done == ["made"]


async def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    def work() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await instance._to_its_end(work)
