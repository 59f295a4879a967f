"""Brokers that are made where triggers name them, and Brokers that are left alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Object
from knative_lambda.reconcile.loop import reconcile
from knative_lambda.resources import broker
from knative_lambda.resources.broker import BrokerSettings
from tests import gen
from tests.scenarios.controller import HELLO, Controller, Died, Mortal, Stage, until

pytestmark = pytest.mark.scenario

RABBIT = BrokerSettings(cluster=Key("rabbitmq", "rabbit"))
SETTINGS = replace(gen.SETTINGS, brokers=RABBIT)
DEFAULT = Key(gen.NAMESPACE, "default")
CONFIG = Key(gen.NAMESPACE, broker.config_name(RABBIT))
LISTENING = gen.with_trigger("default", type="order.placed")
BROKER_WRITES = ("create RabbitmqBrokerConfig", "create Broker")
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def stage_with_rabbitmq() -> Stage:
    stage = Stage()
    stage.cluster.install(kinds.RABBITMQ_BROKER_CONFIG)
    return stage


def asking(stage: Stage, settings: Any = SETTINGS) -> Controller:
    return stage.controller(settings=settings)


def broker_writes(controller: Controller) -> list[str]:
    return [what for what in controller.life.writes if "Broker" in what]


async def broker_goes_ready(stage: Stage) -> None:
    await stage.cluster.patch(kinds.BROKER, DEFAULT, {"status": READY}, subresource="status")


async def message(stage: Stage, key: Key = HELLO) -> str:
    rows = {row.type: row for row in (await stage.function(key)).status.conditions}
    return rows["BrokerReady"].message


async def ours(stage: Stage, settings: BrokerSettings) -> Object:
    """A Broker that an earlier controller made, ready."""
    made = await stage.cluster.create(kinds.BROKER, broker.manifest(DEFAULT, settings))
    await broker_goes_ready(stage)
    return made


async def test_missing_broker_is_made_and_the_function_is_ready_once_it_is() -> None:
    stage = stage_with_rabbitmq()
    controller = asking(stage)
    await stage.create(LISTENING)
    await controller.settle()
    assert controller.life.writes[:4] == ["create Job", *BROKER_WRITES, "publish"]
    assert await stage.cluster.get(kinds.RABBITMQ_BROKER_CONFIG, CONFIG)
    assert (await stage.cluster.get(kinds.BROKER, DEFAULT))["spec"]["config"]["name"] == CONFIG.name
    await stage.finish_jobs()
    await controller.settle()
    await stage.serve()
    await controller.settle()
    assert await stage.condition() == ("Unknown", "BrokerNotReady")
    await broker_goes_ready(stage)
    await controller.settle()
    assert await stage.condition() == ("True", "Ready")
    assert broker_writes(controller) == [*BROKER_WRITES]
    assert controller.seen.reads == []


async def test_made_broker_wakes_its_function_when_it_is_ready() -> None:
    stage = stage_with_rabbitmq()
    async with asking(stage).running():
        await stage.create(LISTENING)

        async def is_made() -> bool:
            return bool(await stage.all(kinds.BROKER))

        async def is_ready() -> bool:
            return await stage.condition("BrokerReady") == ("True", "BrokerReady")

        await until(is_made)
        await broker_goes_ready(stage)
        await until(is_ready)


async def test_foreign_broker_is_used_and_not_touched() -> None:
    stage = stage_with_rabbitmq()
    await stage.broker()
    before = await stage.cluster.get(kinds.BROKER, DEFAULT)
    controller = asking(stage)
    await stage.create(LISTENING)
    await controller.settle()
    assert await stage.condition("BrokerReady") == ("True", "BrokerReady")
    assert await message(stage) == ""
    assert broker_writes(controller) == []
    assert await stage.cluster.get(kinds.BROKER, DEFAULT) == before
    assert await stage.all(kinds.RABBITMQ_BROKER_CONFIG) == []


async def test_foreign_broker_that_is_not_ready_is_waited_for_in_its_own_words() -> None:
    stage = stage_with_rabbitmq()
    await stage.broker()
    status = {"conditions": [{"type": "Ready", "status": "False", "message": "exchange is not there"}]}
    await stage.cluster.patch(kinds.BROKER, DEFAULT, {"status": status}, subresource="status")
    controller = asking(stage)
    await stage.create(LISTENING)
    await controller.settle()
    assert await stage.condition("BrokerReady") == ("False", "BrokerNotReady")
    assert await message(stage) == "Broker tenant-1/default is not ready: exchange is not there"
    assert broker_writes(controller) == []


async def test_broker_of_ours_keeps_another_rabbitmq_and_the_condition_says_so() -> None:
    stage = stage_with_rabbitmq()
    await ours(stage, BrokerSettings(cluster=Key("rabbitmq", "former")))
    before = await stage.cluster.get(kinds.BROKER, DEFAULT)
    controller = asking(stage)
    await stage.create(LISTENING)
    await controller.settle()
    assert await stage.condition("BrokerReady") == ("True", "BrokerReady")
    assert "keeps the RabbitMQ that it was made with" in await message(stage)
    assert await stage.cluster.get(kinds.BROKER, DEFAULT) == before
    assert broker_writes(controller) == []


async def test_broker_of_ours_that_is_deleted_is_made_anew_for_the_rabbitmq_of_today() -> None:
    stage = stage_with_rabbitmq()
    former = BrokerSettings(cluster=Key("rabbitmq", "former"))
    await stage.cluster.create(kinds.RABBITMQ_BROKER_CONFIG, broker.config(gen.NAMESPACE, former))
    await ours(stage, former)
    controller = asking(stage)
    await stage.create(LISTENING)
    await controller.settle()
    await stage.cluster.delete(kinds.BROKER, DEFAULT)
    await controller.settle()
    made = await stage.cluster.get(kinds.BROKER, DEFAULT)
    assert made["spec"]["config"]["name"] == CONFIG.name
    await broker_goes_ready(stage)
    await controller.settle()
    assert await message(stage) == ""


async def test_broker_of_ours_as_wanted_needs_no_word() -> None:
    stage = stage_with_rabbitmq()
    await ours(stage, RABBIT)
    controller = asking(stage)
    await stage.create(LISTENING)
    await controller.settle()
    assert await message(stage) == ""
    assert broker_writes(controller) == []


async def test_two_functions_that_ask_at_the_same_time_share_one_broker() -> None:
    stage = stage_with_rabbitmq()
    first, second = asking(stage), asking(stage)  # of two processes: neither sees the other's write
    await stage.create(LISTENING)
    await stage.create(LISTENING, name="other")
    other = Key(gen.NAMESPACE, "other")
    await first.sync()
    await second.sync()
    await asyncio.gather(reconcile(HELLO, first.world), reconcile(other, second.world))
    assert [broker_writes(one) for one in (first, second)] == [[*BROKER_WRITES], [*BROKER_WRITES]]
    assert len(await stage.all(kinds.BROKER)) == len(await stage.all(kinds.RABBITMQ_BROKER_CONFIG)) == 1
    for key in (HELLO, other):
        assert await message(stage, key) == "Broker tenant-1/default is being made"


async def test_next_function_sees_the_new_broker_before_the_watch_shows_it() -> None:
    stage = stage_with_rabbitmq()
    controller = asking(stage)
    await stage.create(LISTENING)
    await stage.create(LISTENING, name="other")
    await controller.sync()
    await reconcile(HELLO, controller.world)
    await reconcile(Key(gen.NAMESPACE, "other"), controller.world)
    assert broker_writes(controller) == [*BROKER_WRITES]


@pytest.mark.parametrize("dies_at", [2, 3])
async def test_controller_that_dies_at_it_leaves_work_that_the_next_one_finishes(dies_at: int) -> None:
    stage = stage_with_rabbitmq()
    await stage.create(LISTENING)
    first = stage.controller(settings=SETTINGS, life=Mortal(dies_at))
    with pytest.raises(Died):
        await first.reconcile()
    assert first.life.writes[-1] == BROKER_WRITES[dies_at - 2]
    second = asking(stage)
    await second.settle()
    assert len(await stage.all(kinds.BROKER)) == len(await stage.all(kinds.RABBITMQ_BROKER_CONFIG)) == 1


async def test_broker_stays_when_its_function_goes() -> None:
    stage = stage_with_rabbitmq()
    controller = asking(stage)
    await stage.create(LISTENING)
    await controller.settle()
    await stage.cluster.delete(kinds.LAMBDA_FUNCTION, HELLO)
    await controller.settle()
    assert await stage.all(kinds.LAMBDA_FUNCTION) == []
    assert len(await stage.all(kinds.BROKER)) == len(await stage.all(kinds.RABBITMQ_BROKER_CONFIG)) == 1


@pytest.mark.parametrize("missing", [kinds.RABBITMQ_BROKER_CONFIG, kinds.BROKER])
async def test_missing_kind_is_told_and_no_broker_is_half_made(missing: Any) -> None:
    stage = stage_with_rabbitmq()
    controller = asking(stage)
    await stage.create(LISTENING)
    await controller.sync()
    stage.cluster.uninstall(missing)
    look = await reconcile(HELLO, controller.world)
    assert await stage.condition("BrokerReady") == ("False", "KindNotInstalled")
    assert await stage.condition() == ("False", "KindNotInstalled")
    assert missing.kind in await message(stage)
    assert look is not None
    assert look.after >= 60
    stage.cluster.install(missing)
    assert await stage.all(kinds.BROKER) == []
    assert await stage.all(kinds.JOB)


async def test_nobody_makes_a_broker_unless_the_settings_ask_for_it() -> None:
    stage = stage_with_rabbitmq()
    controller = stage.controller()
    await stage.create(LISTENING)
    await controller.settle()
    assert await stage.condition("BrokerReady") == ("False", "BrokerNotReady")
    assert await message(stage) == "there is no Broker tenant-1/default"
    assert broker_writes(controller) == []


async def test_function_without_triggers_asks_for_no_broker() -> None:
    stage = stage_with_rabbitmq()
    controller = asking(stage)
    await stage.create()
    await controller.settle()
    assert broker_writes(controller) == []
    assert await stage.condition("BrokerReady") == ("True", "NoTriggers")
