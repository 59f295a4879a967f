"""Gauges that are counted from the caches when a scraper asks."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace

import psutil

from knative_lambda.api.meta import Key
from knative_lambda.web.figures import resident_bytes
from knative_lambda.web.metrics import CATCH_ALL
from tests import gen

from .desk import Desk

READY = gen.service_ready()


async def test_services_are_counted_by_namespace_and_state() -> None:
    desk = Desk()
    states = {"a": (READY,), "b": (READY,), "c": (), "d": (gen.service_failed(),)}
    for name, parts in states.items():
        fn = gen.lambda_function(name)
        desk.services.put(fn.key, gen.service(fn, *parts))
    elsewhere = gen.lambda_function("a", namespace="shop")
    desk.services.put(elsewhere.key, gen.service(elsewhere, READY))
    foreign = gen.lambda_function("z")
    desk.services.put(foreign.key, gen.service(foreign, gen.stranger()))
    found = {(one["namespace"], one["status"]): n for one, n in await desk.samples("operator_knative_services_managed")}
    assert found == {
        (gen.NAMESPACE, "ready"): 2,
        (gen.NAMESPACE, "pending"): 1,
        (gen.NAMESPACE, "failed"): 1,
        ("shop", "ready"): 1,
    }


async def test_running_builds_are_counted_by_function_and_those_beyond_the_limit_together() -> None:
    desk = Desk(functions=1)
    for name in ("a", "b", "c"):
        fn = gen.lambda_function(name)
        desk.metrics.series.enter(fn.key)
        desk.jobs.put(fn.key, gen.job(fn))
    ended, going = gen.lambda_function("d"), gen.lambda_function("e")
    desk.jobs.put(ended.key, gen.job(ended, gen.complete()))
    desk.jobs.put(going.key, replace(gen.job(going), deleting=True))
    found = {one["function_name"]: value for one, value in await desk.samples("operator_build_jobs_active")}
    assert found == {"a": 1, "other": 2}


async def test_only_the_leader_tells_of_the_cluster() -> None:
    desk = Desk()
    fn = gen.lambda_function()
    desk.services.put(fn.key, gen.service(fn, READY))
    desk.jobs.put(fn.key, gen.job(fn))
    desk.metrics.dead_letters[fn.key] = 3
    desk.leads = False
    for name in ("knative_services_managed", "build_jobs_active", "event_queue_depth", "dlq_depth"):
        assert await desk.samples(f"operator_{name}") == []
    desk.leads = True
    assert await desk.value("operator_knative_services_managed", status="ready") == 1


async def test_the_depth_of_dead_letter_queues_is_what_was_asked_last() -> None:
    desk = Desk()
    key = Key("shop", "hello")
    desk.metrics.series.enter(key)
    desk.metrics.dead_letters[key] = 7
    assert await desk.value("operator_dlq_depth", function_name="hello", namespace="shop") == 7
    del desk.metrics.dead_letters[key]
    assert await desk.samples("operator_dlq_depth") == []


async def test_the_catch_all_queue_has_a_figure_of_its_own() -> None:
    desk = Desk()
    desk.metrics.dead_letters[CATCH_ALL] = 2
    assert await desk.samples("operator_dlq_depth") == [({"function_name": "catch-all", "namespace": ""}, 2)]


async def test_every_type_of_event_has_a_depth() -> None:
    samples = await Desk().samples("operator_event_queue_depth")
    assert len(samples) == 17
    assert {value for _, value in samples} == {0}


async def test_webhooks_are_counted_by_every_replica() -> None:
    desk = Desk()
    desk.leads = False
    desk.deliveries["gitlab", "unsigned"] += 2
    assert await desk.value("operator_webhook_deliveries_total", forge="gitlab", outcome="unsigned") == 2


async def test_the_process_tells_of_itself() -> None:
    desk = Desk()
    idle = [asyncio.create_task(asyncio.sleep(60)) for _ in range(5)]
    tasks = await desk.value("operator_goroutines")
    for task in idle:
        task.cancel()
    assert tasks is not None
    assert tasks >= 6
    assert re.search(r"^operator_cpu_usage_seconds [0-9.]*[1-9]", await desk.text(), re.MULTILINE)
    real = psutil.Process(os.getpid()).memory_info().rss
    assert abs(resident_bytes() - real) < real / 4
