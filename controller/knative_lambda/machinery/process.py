"""Runs the long-lived tasks of a process and ends them in order. Called by wiring."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from knative_lambda.kit import redact
from knative_lambda.kit.clock import Clock
from knative_lambda.machinery.timing import within

GC_THRESHOLDS = (10_000, 20, 20)
"""Python's own 700 containers are made by one reconcile: a tenth of a burst's CPU went into looking at them."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """One long-lived task. It is ended by cancelling `run`, then awaiting `drain`; each gets `patience` seconds."""

    name: str
    run: Callable[[], Awaitable[None]]
    drain: Callable[[], Awaitable[None]] | None = None
    patience: float = 30.0


async def serve(stages: Sequence[Sequence[Service]], *, stop: asyncio.Event, clock: Clock) -> None:
    """Starts the stages first to last, and ends them last to first once `stop` is set or one service has ended.

    So informers come first and runners last: runners end while what they need still works. The services of one
    stage end together. Raises an ExceptionGroup of what services raised.
    """
    started = [{asyncio.ensure_future(service.run()): service for service in stage} for stage in stages]
    tasks = {task: service for stage in started for task, service in stage.items()}
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    awaited: set[asyncio.Future[Any]] = {stopping, *tasks}
    try:
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        failures: list[Exception] = [_Early(service.name) for task, service in tasks.items() if _returned(task)]
        for stage in reversed(started):
            ends = (_end(task, service, clock) for task, service in stage.items())
            failures += [failure for failure in await asyncio.gather(*ends) if failure is not None]
    if failures:
        raise ExceptionGroup("services failed", failures)


class _Early(RuntimeError):
    """A service returned although nobody had asked it to."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} ended by itself")


def _returned(task: asyncio.Future[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _end(task: asyncio.Future[None], service: Service, clock: Clock) -> Exception | None:
    """What the service raised, if it did."""
    failure = await _stopped(task, service, clock)
    if failure is not None:
        log.error("service failed", service=service.name, error=redact.text(repr(failure)))
    return await _drained(service, clock) or failure


async def _stopped(task: asyncio.Future[None], service: Service, clock: Clock) -> Exception | None:
    task.cancel()
    try:
        await within(clock, service.patience, asyncio.wait({task}))
    except TimeoutError:
        return TimeoutError(f"{service.name} did not end within {service.patience:g} s")
    failure = None if task.cancelled() else task.exception()
    return failure if isinstance(failure, Exception) else None


async def _drained(service: Service, clock: Clock) -> Exception | None:
    if service.drain is None:
        return None
    try:
        await within(clock, service.patience, service.drain())
    except Exception as error:  # noqa: BLE001 - the next service must end, too; serve raises it
        log.error("service not drained", service=service.name, error=redact.text(repr(error)))
        return error
    return None


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set `stop`; a second one ends the process as if we had never been asked."""
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        loop.remove_signal_handler(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)


async def freeze_when_synced(synced: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Once all caches are full, takes their objects out of garbage collection: they stay, so why look at them.

    From then on it also comes less often: what a reconcile makes is mostly freed without it.
    """
    for wait in synced:
        await wait()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
