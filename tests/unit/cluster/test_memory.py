"""MemoryCluster beyond the contract: its levers, its clock, its validators, and kinds that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from knative_lambda.api import crd
from knative_lambda.api.kinds import (
    BROKER,
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    JOB,
    LAMBDA_FUNCTION,
    NAMESPACE,
    POD,
    SERVICE,
    TRIGGER,
)
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import (
    Conflict,
    EventKind,
    Gone,
    Invalid,
    KindNotInstalled,
    NotFound,
    Object,
    Selection,
    Timeout,
    TooManyRequests,
    Unavailable,
    WatchEvent,
)
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import ManualClock

pytestmark = pytest.mark.unit

KEY = Key("ns", "a")
WIDGET = Kind("example.org", "v1", "widgets", "Widget")


def memory(clock: ManualClock | None = None, **options: Any) -> MemoryCluster:
    return MemoryCluster(clock=clock or ManualClock(), **options)


def config_map(name: str = "a", namespace: str = "ns", **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def function(name: str = "a") -> Object:
    source = {"type": "inline", "inline": {"code": "def handler(event): return event"}}
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"source": source, "runtime": {"language": "python", "version": "3.11"}},
    }


def definition(*, schema: Object | None = None, status: bool = True) -> Object:
    version: Object = {"name": "v1", "served": True, "storage": True}
    if schema is not None:
        version["schema"] = {"openAPIV3Schema": schema}
    if status:
        version["subresources"] = {"status": {}}
    return {
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [version, {"name": "v2", "served": False}],
        },
    }


async def heard(cluster: MemoryCluster, kind: Kind, version: str, *, seconds: int = 300) -> list[WatchEvent]:
    stream = cluster.watch(kind, resource_version=version, seconds=seconds)
    async with contextlib.aclosing(stream) as events:  # type: ignore[type-var]
        return [event async for event in events]


class TestOurKinds:
    async def test_a_function_gets_the_defaults_of_its_definition(self) -> None:
        cluster = memory(definitions=crd.definitions())
        made = await cluster.create(LAMBDA_FUNCTION, function())
        assert made["spec"]["scaling"]["maxReplicas"] > 0
        assert made["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
        with pytest.raises(Invalid, match=r"spec\.runtime\.language"):
            await cluster.patch(LAMBDA_FUNCTION, KEY, {"spec": {"runtime": {"language": "cobol"}}})

    async def test_validators_see_the_defaulted_object_and_refuse_in_their_words(self) -> None:
        seen: list[Object] = []

        def validate(obj: Object) -> None:
            seen.append(obj)
            if obj["spec"]["source"]["type"] == "git":
                raise ValueError("spec.source.git must be given")

        cluster = memory(definitions=crd.definitions(), validators={LAMBDA_FUNCTION: validate})
        await cluster.create(LAMBDA_FUNCTION, function())
        assert "scaling" in seen[0]["spec"]
        seen[0]["spec"].clear()
        for write in (
            cluster.patch(LAMBDA_FUNCTION, KEY, {"spec": {"source": {"type": "git"}}}),
            cluster.apply(LAMBDA_FUNCTION, {**function(), "spec": {**function()["spec"], "source": {"type": "git"}}}),
        ):
            with pytest.raises(Invalid, match=r"LambdaFunction.* is invalid: .*git must be given"):
                await write
        assert (await cluster.get(LAMBDA_FUNCTION, KEY))["spec"]["source"]["type"] == "inline"


class TestKinds:
    async def test_kinds_without_schema_keep_everything(self) -> None:
        cluster = memory(kinds=[SERVICE])
        spec = {"template": {"spec": {"containers": [{"image": "a"}]}, "anything": [1, None]}}
        made = await cluster.create(SERVICE, {"metadata": {"name": "a", "namespace": "ns"}, "spec": spec})
        assert made["spec"] == spec
        assert await cluster.served(SERVICE)
        assert not await cluster.served(TRIGGER)

    async def test_a_definition_brings_its_kind_and_takes_it_away(self) -> None:
        cluster = memory()
        with pytest.raises(KindNotInstalled):
            await cluster.list(WIDGET)
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
        await cluster.apply(CUSTOM_RESOURCE_DEFINITION, definition(schema=schema))
        widget = {"metadata": {"name": "a", "namespace": "ns"}, "spec": {"a": "x"}}
        made = await cluster.create(WIDGET, widget)
        with pytest.raises(Invalid):
            await cluster.patch(WIDGET, KEY, {"spec": {"a": 1}})
        listening = asyncio.create_task(heard(cluster, WIDGET, made["metadata"]["resourceVersion"]))
        await asyncio.sleep(0)
        await cluster.delete(CUSTOM_RESOURCE_DEFINITION, Key("", "widgets.example.org"))
        with pytest.raises(KindNotInstalled):
            await cluster.get(WIDGET, KEY)
        with pytest.raises(Unavailable):
            await listening
        await cluster.create(CUSTOM_RESOURCE_DEFINITION, definition())
        with pytest.raises(NotFound):
            await cluster.get(WIDGET, KEY)

    async def test_an_unserved_version_is_no_kind(self) -> None:
        cluster = memory(definitions=[definition()])
        assert await cluster.served(WIDGET)
        assert not await cluster.served(Kind("example.org", "v2", "widgets", "Widget"))

    async def test_without_the_status_subresource_status_is_a_field_like_others(self) -> None:
        cluster = memory(definitions=[definition(status=False)])
        made = await cluster.create(WIDGET, {"metadata": {"name": "a", "namespace": "ns"}, "status": {"x": 1}})
        assert made["status"] == {"x": 1}
        changed = await cluster.patch(WIDGET, KEY, {"status": {"x": 2}})
        assert changed["metadata"]["generation"] == 2
        with pytest.raises(NotFound):
            await cluster.patch(WIDGET, KEY, {"status": {"x": 3}}, subresource="status")

    async def test_install_and_uninstall_play_knative_that_comes_and_goes(self) -> None:
        cluster = memory()
        assert not await cluster.served(BROKER)
        cluster.install(BROKER)
        await cluster.create(BROKER, {"metadata": {"name": "a", "namespace": "ns"}})
        cluster.uninstall(BROKER)
        with pytest.raises(KindNotInstalled):
            await cluster.get(BROKER, KEY)
        cluster.install(BROKER)
        assert (await cluster.list(BROKER)).items == []

    async def test_pods_and_namespaces_begin_with_a_phase(self) -> None:
        cluster = memory()
        pod = await cluster.create(POD, {"metadata": {"name": "a", "namespace": "ns"}, "spec": {}})
        await cluster.create(NAMESPACE, {"metadata": {"name": "ns"}})
        assert pod["status"] == {"phase": "Pending"}
        await cluster.patch(POD, KEY, {"status": {"phase": "Running"}}, subresource="status")
        assert len((await cluster.list(POD, Selection("ns", fields="status.phase=Running"))).items) == 1
        assert (await cluster.list(POD, Selection("ns", fields="status.phase=Pending"))).items == []

    async def test_a_namespace_takes_everything_in_it_along(self) -> None:
        cluster = memory()
        await cluster.create(NAMESPACE, {"metadata": {"name": "ns"}})
        for namespace in ("ns", "other"):
            await cluster.create(CONFIG_MAP, config_map(namespace=namespace))
        await cluster.delete(NAMESPACE, Key("", "ns"))
        left = (await cluster.list(CONFIG_MAP)).items
        assert [one["metadata"]["namespace"] for one in left] == ["other"]


class TestBadDays:
    async def test_the_next_calls_of_a_verb_and_kind_fail(self) -> None:
        cluster = memory()
        cluster.fail_next("create", CONFIG_MAP, TooManyRequests("patience", retry_after=3), times=2)
        await cluster.create(JOB, {"metadata": {"name": "a", "namespace": "ns"}, "spec": {}})
        for _ in range(2):
            with pytest.raises(TooManyRequests) as caught:
                await cluster.create(CONFIG_MAP, config_map())
            assert caught.value.retry_after == 3
        await cluster.create(CONFIG_MAP, config_map())
        assert cluster.counts.of("create", CONFIG_MAP) == 3

    async def test_an_answer_can_be_lost_after_the_write(self) -> None:
        cluster = memory()
        cluster.fail_next("create", None, Timeout("no answer"), after=True)
        with pytest.raises(Timeout):
            await cluster.create(CONFIG_MAP, config_map(a="b"))
        assert (await cluster.get(CONFIG_MAP, KEY))["data"] == {"a": "b"}

    async def test_status_writes_can_fail_alone_and_anything_can(self) -> None:
        cluster = memory()
        await cluster.create(POD, {"metadata": {"name": "a", "namespace": "ns"}})
        cluster.fail_next("patch_status", POD, Conflict("late"))
        await cluster.patch(POD, KEY, {"metadata": {"labels": {"a": "b"}}})
        with pytest.raises(Conflict):
            await cluster.patch(POD, KEY, {"status": {"phase": "Running"}}, subresource="status")
        cluster.fail_next("*", None, Unavailable("away"), times=100)
        for call in (cluster.get(POD, KEY), cluster.list(POD), cluster.delete(POD, KEY), cluster.served(POD)):
            with pytest.raises(Unavailable):
                await call
        cluster.recover()
        assert await cluster.get(POD, KEY)

    async def test_latency_is_time_on_the_clock(self) -> None:
        clock = ManualClock()
        cluster = memory(clock)
        cluster.latency = 2.0
        call = asyncio.create_task(cluster.create(CONFIG_MAP, config_map()))
        await clock.advance(1.9)
        assert not call.done()
        await clock.advance(0.2)
        assert call.done()
        assert await call

    async def test_cut_watches_break_and_may_resume(self) -> None:
        cluster = memory()
        made = await cluster.create(CONFIG_MAP, config_map())
        version = made["metadata"]["resourceVersion"]
        listening = [asyncio.create_task(heard(cluster, kind, version)) for kind in (CONFIG_MAP, JOB)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cluster.cut_watches(CONFIG_MAP)
        with pytest.raises(Unavailable, match="cut"):
            await listening[0]
        assert not listening[1].done()
        cluster.cut_watches()
        with pytest.raises(Unavailable):
            await listening[1]
        await cluster.delete(CONFIG_MAP, KEY)
        stream = cluster.watch(CONFIG_MAP, resource_version=version)
        assert (await anext(stream)).kind is EventKind.DELETED

    async def test_compacting_leaves_running_watches_alone(self) -> None:
        cluster = memory()
        made = await cluster.create(CONFIG_MAP, config_map())
        old = made["metadata"]["resourceVersion"]
        running = cluster.watch(CONFIG_MAP, resource_version=old)
        first = asyncio.ensure_future(anext(running))
        await asyncio.sleep(0)
        await cluster.create(JOB, {"metadata": {"name": "a", "namespace": "ns"}})
        cluster.compact()
        await cluster.patch(CONFIG_MAP, KEY, {"data": {"x": "y"}})
        assert (await first).object["data"] == {"x": "y"}
        with pytest.raises(Gone):
            await heard(cluster, CONFIG_MAP, old)

    async def test_a_watch_that_lags_too_far_behind_is_gone(self) -> None:
        cluster = memory(history=10)
        made = await cluster.create(CONFIG_MAP, config_map())
        version = made["metadata"]["resourceVersion"]
        slow = cluster.watch(CONFIG_MAP, resource_version=version)
        for number in range(30):
            await cluster.patch(CONFIG_MAP, KEY, {"data": {"n": str(number)}})
        with pytest.raises(Gone):
            await anext(slow)
        page = await cluster.list(CONFIG_MAP)
        await cluster.patch(CONFIG_MAP, KEY, {"data": {"n": "last"}})
        event = await anext(cluster.watch(CONFIG_MAP, resource_version=page.resource_version))
        assert event.object["data"] == {"n": "last"}

    async def test_a_version_that_is_no_number_is_refused(self) -> None:
        with pytest.raises(Invalid):
            await heard(memory(), CONFIG_MAP, "latest")


class TestTime:
    async def test_bookmarks_come_every_minute_and_at_the_end(self) -> None:
        clock = ManualClock()
        cluster = memory(clock)
        page = await cluster.list(CONFIG_MAP)
        listening = asyncio.create_task(heard(cluster, CONFIG_MAP, page.resource_version, seconds=150))
        await clock.advance(30)
        await cluster.create(JOB, {"metadata": {"name": "a", "namespace": "ns"}})
        newest = (await cluster.list(JOB)).resource_version
        await clock.advance(119)
        assert not listening.done()
        await clock.advance(1)
        events = await listening
        assert [event.kind for event in events] == [EventKind.BOOKMARK] * 3
        assert {event.object["metadata"]["resourceVersion"] for event in events} == {newest}
        assert set(events[0].object) == {"apiVersion", "kind", "metadata"}

    async def test_deletion_is_stamped_by_the_clock(self) -> None:
        clock = ManualClock()
        cluster = memory(clock)
        made = config_map()
        made["metadata"]["finalizers"] = ["example.org/x"]
        await cluster.create(CONFIG_MAP, made)
        await clock.advance(90)
        await cluster.delete(CONFIG_MAP, KEY)
        assert (await cluster.get(CONFIG_MAP, KEY))["metadata"]["deletionTimestamp"] == "2026-01-01T00:01:30Z"


class TestSharing:
    async def test_no_reader_sees_what_another_does_to_its_copy(self) -> None:
        cluster = memory()
        made = await cluster.create(CONFIG_MAP, config_map(a="b"))
        streams = [cluster.watch(CONFIG_MAP, resource_version="1") for _ in range(2)]
        first, second = [(await anext(stream)).object for stream in streams]
        for copy in (made, first, (await cluster.list(CONFIG_MAP)).items[0]):
            copy["data"]["a"] = "changed"
        assert second["data"] == {"a": "b"}
        assert (await cluster.get(CONFIG_MAP, KEY))["data"] == {"a": "b"}

    async def test_old_continue_tokens_expire(self) -> None:
        cluster = memory()
        for number in range(3):
            await cluster.create(CONFIG_MAP, config_map(f"c{number}"))
        first = await cluster.list(CONFIG_MAP, limit=1)
        for _ in range(20):
            await cluster.list(CONFIG_MAP, limit=1)
        with pytest.raises(Gone):
            await cluster.list(CONFIG_MAP, limit=1, continue_token=first.continue_token)
        for token in ("x", "1.x", "."):
            with pytest.raises(Gone):
                await cluster.list(CONFIG_MAP, continue_token=token)
