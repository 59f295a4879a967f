"""The order in which a process starts and ends."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from structlog.testing import capture_logs

from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.process import GC_THRESHOLDS, Service, freeze_when_synced, serve, stop_on_signals

from .link import running, settle, until


class Troupe:
    """Services that write down what happens to them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.stop = asyncio.Event()
        self.story: list[str] = []

    def service(self, name: str, *, needs: float = 0.0, drained: bool = False) -> Service:
        """Ends `needs` seconds after it was asked to."""

        async def run() -> None:
            self.story.append(f"{name} starts")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await self.clock.sleep(needs)
                self.story.append(f"{name} ends")

        async def drain() -> None:
            self.story.append(f"{name} drained")

        return Service(name, run, drain if drained else None)

    async def serve(self, *stages: list[Service]) -> None:
        await serve(stages, stop=self.stop, clock=self.clock)


async def test_stages_end_in_reverse_order_each_after_the_one_above_has_ended() -> None:
    troupe = Troupe()
    stages = (
        [troupe.service("informer")],
        [troupe.service("recorder", drained=True)],
        [troupe.service("runner", needs=20), troupe.service("gitsync", needs=5)],
    )
    async with running(troupe.serve(*stages)) as [task]:
        await settle()
        assert troupe.story == ["informer starts", "recorder starts", "runner starts", "gitsync starts"]
        troupe.story.clear()
        troupe.stop.set()
        await troupe.clock.advance(19)
        assert troupe.story == ["gitsync ends"]
        await troupe.clock.advance(2)
        assert troupe.story == ["gitsync ends", "runner ends", "recorder ends", "recorder drained", "informer ends"]
        await task


async def test_a_service_that_fails_ends_the_others_in_order_and_is_raised() -> None:
    troupe = Troupe()

    async def fail() -> None:
        await troupe.clock.sleep(1)
        raise RuntimeError("token=abc123")

    with capture_logs() as logs:
        task = asyncio.create_task(troupe.serve([troupe.service("informer")], [Service("broken", fail)]))
        await troupe.clock.advance(2)
        with pytest.raises(ExceptionGroup) as caught:
            await task
    assert [str(error) for error in caught.value.exceptions] == ["token=abc123"]
    assert troupe.story == ["informer starts", "informer ends"]
    assert "abc123" not in str(logs)


async def test_a_service_that_ends_by_itself_is_a_failure_too() -> None:
    troupe = Troupe()

    async def short() -> None:
        return None

    with pytest.raises(ExceptionGroup) as caught:
        await troupe.serve([Service("short", short)], [troupe.service("long")])
    assert [str(error) for error in caught.value.exceptions] == ["short ended by itself"]


async def test_a_service_that_does_not_end_is_left_behind_after_its_patience() -> None:
    troupe = Troupe()
    task = asyncio.create_task(troupe.serve([troupe.service("informer")], [troupe.service("stuck", needs=1000)]))
    await settle()
    troupe.stop.set()
    await troupe.clock.advance(29)
    assert not task.done()
    await troupe.clock.advance(2)
    with pytest.raises(ExceptionGroup) as caught:
        await task
    assert [str(error) for error in caught.value.exceptions] == ["stuck did not end within 30 s"]
    assert troupe.story[-1] == "informer ends"
    await troupe.clock.advance(1000)


async def test_a_drain_that_fails_does_not_keep_the_rest_from_ending() -> None:
    troupe = Troupe()
    good = troupe.service("recorder")

    async def fail() -> None:
        raise RuntimeError("broker away")

    troupe.stop.set()
    with pytest.raises(ExceptionGroup, match="services failed"):
        await troupe.serve([troupe.service("informer")], [Service("recorder", good.run, fail)])
    assert troupe.story[-1] == "informer ends"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_for_the_end_and_a_second_one_is_not_ours(number: signal.Signals) -> None:
    stop = asyncio.Event()
    before = signal.getsignal(number)
    stop_on_signals(stop)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(stop.wait(), 10)
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(each)
    signal.signal(number, before)


async def test_memory_is_frozen_once_all_caches_are_full() -> None:
    import gc

    usual = gc.get_threshold()
    first, second = asyncio.Event(), asyncio.Event()

    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    async with running(freeze_when_synced([lambda: wait(first), lambda: wait(second)])) as [task]:
        first.set()
        await settle()
        assert (gc.get_freeze_count(), gc.get_threshold(), task.done()) == (0, usual, False)
        second.set()
        await until(task.done)
        assert (gc.get_freeze_count() > 0, gc.get_threshold()) == (True, GC_THRESHOLDS)
    gc.unfreeze()
    gc.set_threshold(*usual)
