"""The controller dies at every single write of a function's life, and its successor finds its work again.

A publish counts as a write. Each death is played twice: the write happened and nobody heard the answer; or it did not
happen at all. The successor starts with empty caches, as after SIGKILL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from knative_lambda.api import kinds, meta
from tests import gen
from tests.scenarios.controller import HELLO, Controller, Died, Mortal, Stage

pytestmark = pytest.mark.scenario

Story = Callable[[Stage, "Heirs"], Awaitable[None]]


class Heirs:
    """One controller after the other over the same cluster; only the first may die."""

    def __init__(self, stage: Stage, life: Mortal) -> None:
        self._stage = stage
        self.current: Controller = stage.controller(life=life)
        self.deaths = 0

    async def settle(self) -> None:
        try:
            await self.current.settle()
        except Died:
            self.deaths += 1
            self.current = self._stage.controller()
            await self.current.settle()


async def _born_and_ready(stage: Stage, heirs: Heirs) -> None:
    """With a trigger, so that every kind of child is written."""
    await stage.broker()
    await stage.create(gen.with_trigger("default", type="order.placed"))
    await heirs.settle()
    await stage.finish_jobs()
    await heirs.settle()
    await stage.serve()
    await heirs.settle()


async def _changed(stage: Stage, heirs: Heirs) -> None:
    await _born_and_ready(stage, heirs)
    await stage.change(source=gen.inline("def handler(event): return 2\n"))
    await heirs.settle()
    await stage.finish_jobs(gen.OTHER_DIGEST)
    await heirs.settle()
    await stage.serve()
    await heirs.settle()


async def _deleted(stage: Stage, heirs: Heirs) -> None:
    await _born_and_ready(stage, heirs)
    await stage.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)
    await heirs.settle()


async def _writes_of(story: Story) -> int:
    stage, life = Stage(), Mortal()
    await story(stage, Heirs(stage, life))
    return len(life.writes)


async def _with_deaths(story: Story, check: Callable[[Stage], Awaitable[None]]) -> None:
    """Plays the story once per write and manner of death, and checks the end of each."""
    count = await _writes_of(story)
    assert count >= 9
    for after in (True, False):
        for place in range(1, count + 1):
            stage = Stage()
            heirs = Heirs(stage, Mortal(place, after=after))
            await story(stage, heirs)
            assert heirs.deaths == 1, f"nobody died at write {place}"
            try:
                await check(stage)
            except AssertionError as error:
                raise AssertionError(f"death {'after' if after else 'before'} write {place}: {error}") from error


async def test_new_function_ends_ready_wherever_the_controller_dies() -> None:
    async def check(stage: Stage) -> None:
        assert await stage.condition() == ("True", "Ready")
        assert len(await stage.all(kinds.JOB)) == 1
        assert len(await stage.all(kinds.SERVICE)) == 1
        assert len(await stage.all(kinds.TRIGGER)) == 1
        _each_once(stage, "function.created", "build.started", "build.completed", "service.created")
        assert (await stage.function()).status.outbox == ()

    await _with_deaths(_born_and_ready, check)


async def test_changed_function_ends_ready_wherever_the_controller_dies() -> None:
    async def check(stage: Stage) -> None:
        assert await stage.condition() == ("True", "Ready")
        digests = [job["metadata"]["annotations"][meta.ANNOTATION_BUILD] for job in await stage.all(kinds.JOB)]
        assert len(digests) == len(set(digests)) == 2
        assert (await stage.function()).status.image.endswith(gen.OTHER_DIGEST)
        _each_once(stage, "function.created", "function.updated", "service.created", "service.updated")
        assert len(stage.told()["lambda.build.completed"]) == 2
        assert "lambda.build.cancelled" not in stage.told()

    await _with_deaths(_changed, check)


async def test_deleted_function_is_gone_and_announced_wherever_the_controller_dies() -> None:
    async def check(stage: Stage) -> None:
        for kind in (kinds.LAMBDA_FUNCTION, kinds.JOB, kinds.POD, kinds.SERVICE, kinds.TRIGGER):
            assert await stage.all(kind) == []
        _each_once(stage, "function.deleted", "service.deleted")

    await _with_deaths(_deleted, check)


def _each_once(stage: Stage, *types: str) -> None:
    """At least once, and under one id."""
    told = stage.told()
    for name in types:
        assert len(told.get(f"lambda.{name}", ())) == 1, f"{name}: {told.get(f'lambda.{name}')}"
