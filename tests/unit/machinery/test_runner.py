"""How a runner treats its reconciles: the good, the failing, the slow, and those that run when it must stop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from knative_lambda.cluster.base import Conflict, TooManyRequests, Unavailable, WriteFenced
from knative_lambda.kit.backoff import Backoff
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.queue import Priority, WorkQueue
from knative_lambda.machinery.runner import Requeue, Runner

from .link import running, settle, until

Reconcile = Callable[[str], Awaitable[Requeue | None]]


class Bench:
    """A queue, a runner whose reconcile is given, and what was observed."""

    def __init__(self, reconcile: Reconcile, *, workers: int = 50, grace: float = 25.0, timeout: float = 120.0) -> None:
        self.clock = ManualClock()
        self.queue = WorkQueue[str](clock=self.clock, backoff=Backoff(base=1, cap=300))
        self.started: list[tuple[float, str]] = []
        self.ended: list[tuple[str, str, float]] = []
        self._reconcile = reconcile
        self.runner = Runner(
            "test",
            self.queue,
            self._count,
            clock=self.clock,
            workers=workers,
            grace=grace,
            timeout=timeout,
            observer=lambda key, result, seconds: self.ended.append((key, result, seconds)),
        )

    async def _count(self, key: str) -> Requeue | None:
        self.started.append((self.clock.monotonic(), key))
        return await self._reconcile(key)

    @property
    def results(self) -> list[str]:
        return [result for _, result, _ in self.ended]


async def _well(key: str) -> None:
    return None


async def _hang(key: str) -> None:
    await asyncio.get_running_loop().create_future()


def _fails(*errors: Exception) -> Reconcile:
    """Raises these one after the other, then goes well."""
    left = list(errors)

    async def reconcile(key: str) -> None:
        if left:
            raise left.pop(0)

    return reconcile


async def test_each_key_is_reconciled_once_and_forgotten() -> None:
    bench = Bench(_well)
    bench.queue.retry("a")
    bench.queue.add("a")
    bench.queue.add("b")
    async with running(bench.runner.run()):
        await settle()
    assert [key for _, key in bench.started] == ["a", "b"]
    assert bench.results == ["success", "success"]
    assert (bench.queue.failures("a"), bench.queue.processing) == (0, 0)


async def test_a_reconcile_may_ask_to_be_looked_at_again() -> None:
    async def reconcile(key: str) -> Requeue | None:
        return Requeue(30, Priority.LOW) if len(bench.started) == 1 else None

    bench = Bench(reconcile)
    bench.queue.add("a")
    async with running(bench.runner.run()):
        await bench.clock.advance(100)
    assert bench.started == [(0, "a"), (30, "a")]
    assert bench.results == ["requeue", "success"]


async def test_a_failure_is_logged_without_secrets_and_tried_again_ever_later() -> None:
    bench = Bench(_fails(*(RuntimeError("password=hunter2 refused") for _ in range(4))))
    bench.queue.add("a")
    with capture_logs() as logs:
        async with running(bench.runner.run()):
            await bench.clock.advance(60)
    assert bench.results == ["error"] * 4 + ["success"]
    times = [at for at, _ in bench.started]
    for attempt, (before, after) in enumerate(itertools.pairwise(times)):
        assert 2**attempt / 2 <= after - before <= 2**attempt
    assert [line["log_level"] for line in logs] == ["error"] * 4
    assert "hunter2" not in str(logs)
    assert "RuntimeError" in logs[0]["error"]
    assert "test_runner.py" in logs[0]["trace"]
    assert bench.queue.failures("a") == 0


async def test_a_failing_key_does_not_hold_up_others() -> None:
    async def reconcile(key: str) -> None:
        if key == "bad":
            raise RuntimeError(key)

    bench = Bench(reconcile, workers=1)
    for key in ("bad", "b", "c"):
        bench.queue.add(key)
    async with running(bench.runner.run()):
        await settle()
    assert [key for key, result, _ in bench.ended if result == "success"] == ["b", "c"]


async def test_a_server_that_asks_for_patience_is_asked_again_when_it_said() -> None:
    bench = Bench(_fails(TooManyRequests("busy", retry_after=10)))
    bench.queue.add("a")
    with capture_logs() as logs:
        async with running(bench.runner.run()):
            await bench.clock.advance(13)
    assert bench.results == ["throttled", "success"]
    assert 10 <= bench.started[1][0] <= 12
    assert [line["log_level"] for line in logs] == ["warning"]


@pytest.mark.parametrize(
    ("error", "result"), [(Conflict("changed"), "conflict"), (WriteFenced("not the leader"), "fenced")]
)
async def test_coming_too_late_is_no_error_but_tried_again(error: Exception, result: str) -> None:
    bench = Bench(_fails(error))
    bench.queue.add("a")
    with capture_logs() as logs:
        async with running(bench.runner.run()):
            await bench.clock.advance(2)
    assert bench.results == [result, "success"]
    assert {line["log_level"] for line in logs} == {"debug"}


async def test_an_api_server_that_is_away_is_an_error_without_a_trace() -> None:
    bench = Bench(_fails(Unavailable("connection refused")))
    bench.queue.add("a")
    with capture_logs() as logs:
        async with running(bench.runner.run()):
            await settle()
    assert bench.results == ["error"]
    assert logs[0]["error"] == "Unavailable: connection refused"
    assert "trace" not in logs[0]


async def test_no_more_reconciles_run_than_there_are_workers() -> None:
    bench = Bench(_hang, workers=3, grace=0)
    for number in range(10):
        bench.queue.add(str(number))
    async with running(bench.runner.run()):
        await settle()
        assert (bench.runner.running, len(bench.started), len(bench.queue)) == (3, 3, 7)


async def test_a_key_that_changes_while_it_is_reconciled_is_reconciled_again_afterwards() -> None:
    release = asyncio.Event()
    at_once: list[int] = []

    async def reconcile(key: str) -> None:
        at_once.append(bench.runner.running)
        await release.wait()

    bench = Bench(reconcile)
    bench.queue.add("a")
    async with running(bench.runner.run()):
        await settle()
        bench.queue.add("a")
        await settle()
        assert len(bench.started) == 1
        release.set()
        await settle()
    assert len(bench.started) == 2
    assert at_once == [1, 1]


async def test_a_reconcile_that_never_ends_is_stopped_at_its_time_limit_and_tried_again() -> None:
    bench = Bench(_hang, timeout=120, grace=0)
    bench.queue.add("a")
    async with running(bench.runner.run()):
        await bench.clock.advance(50)
        bench.queue.add("b")
        await bench.clock.advance(69)
        assert bench.ended == []
        await bench.clock.advance(2)
        assert bench.ended == [("a", "timeout", 120)]
        await bench.clock.advance(50)
        assert bench.ended[1] == ("b", "timeout", 120)
        assert [key for _, key in bench.started] == ["a", "b", "a", "b"]


async def test_stopping_lets_running_reconciles_finish_and_takes_no_more() -> None:
    async def reconcile(key: str) -> None:
        await bench.clock.sleep(20)

    bench = Bench(reconcile, workers=2)
    for key in ("a", "b", "c"):
        bench.queue.add(key)
    async with running(bench.runner.run()) as [task]:
        await settle()
        task.cancel()
        await bench.clock.advance(19)
        assert (task.done(), bench.ended) == (False, [])
        await bench.clock.advance(2)
        assert task.cancelled()
    assert [(key, result) for key, result, _ in bench.ended] == [("a", "success"), ("b", "success")]
    assert len(bench.queue) == 1


async def test_stopping_cancels_what_does_not_finish_in_time_and_keeps_its_key() -> None:
    bench = Bench(_hang, grace=25)
    bench.queue.add("a")
    async with running(bench.runner.run()) as [task]:
        await settle()
        task.cancel()
        await bench.clock.advance(24)
        assert not task.done()
        await bench.clock.advance(2)
        assert task.cancelled()
    assert bench.results == ["cancelled"]
    assert (bench.queue.processing, bench.queue.delayed) == (0, 1)


async def test_a_second_cancellation_does_not_wait() -> None:
    bench = Bench(_hang, grace=25)
    bench.queue.add("a")
    async with running(bench.runner.run()) as [task]:
        await settle()
        task.cancel()
        await settle()
        task.cancel()
        await settle()
        assert task.cancelled()
    assert bench.results == ["cancelled"]


async def test_a_runner_that_was_stopped_can_run_again() -> None:
    bench = Bench(_well, workers=1)
    async with running(bench.runner.run()):
        bench.queue.add("a")
        await settle()
    bench.queue.add("b")
    await settle()
    assert bench.results == ["success"]
    async with running(bench.runner.run()):
        await settle()
    assert bench.results == ["success", "success"]


async def test_closing_the_queue_ends_the_runner() -> None:
    bench = Bench(_well)
    async with running(bench.runner.run()) as [task]:
        await settle()
        bench.queue.close()
        await until(task.done)


async def test_an_observer_that_fails_does_no_harm() -> None:
    clock = ManualClock()
    queue = WorkQueue[str](clock=clock)
    seen: list[str] = []

    def broken(key: str, result: str, seconds: float) -> None:
        raise RuntimeError("bug")

    async def reconcile(key: str) -> None:
        seen.append(key)

    runner = Runner("test", queue, reconcile, clock=clock, observer=broken)
    queue.add("a")
    with capture_logs() as logs:
        async with running(runner.run()):
            await settle()
            queue.add("a")
            await settle()
    assert seen == ["a", "a"]
    assert [line["log_level"] for line in logs] == ["error", "error"]
