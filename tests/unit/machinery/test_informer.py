"""What an informer knows after everything that a watch can go through."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import (
    EVERYTHING,
    CircuitOpen,
    Gone,
    KindNotInstalled,
    Object,
    Selection,
    TooManyRequests,
    Unavailable,
)
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.informer import LIST_TIMEOUT, RELIST_AFTER, Informer
from knative_lambda.machinery.timing import SLICE, SLICE_SECONDS

from .link import Link, StallingClock, running, settle, until

KIND = kinds.CONFIG_MAP
Change = tuple[str, str | None, str | None]


def _object(name: str, value: str, *, namespace: str = "ns", labels: dict[str, str] | None = None) -> Object:
    metadata = {"namespace": namespace, "name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}


def _value(obj: Object) -> str | None:
    """As a projection: of "nothing" it makes None, on "poison" it breaks."""
    value: str = obj["data"]["value"]
    if value == "poison":
        raise ValueError("token=abc123 cannot be read")
    return None if value == "nothing" else value


class World:
    """A memory API server, one informer on it, and what the informer told."""

    def __init__(self, selections: Sequence[Selection] = (EVERYTHING,), page_size: int = 500) -> None:
        self.clock = ManualClock()
        self.cluster = MemoryCluster(clock=self.clock)
        self.link = Link(self.cluster, self.clock)
        self.changes: list[Change] = []
        self.informer = Informer(
            self.link,
            KIND,
            _value,
            clock=self.clock,
            selections=selections,
            indexes={"value": lambda value: [value]},
            page_size=page_size,
        )
        self.informer.on_change(lambda key, old, new: self.changes.append((key.name, old, new)))

    async def write(
        self, name: str, value: str, *, namespace: str = "ns", labels: dict[str, str] | None = None
    ) -> None:
        await self.cluster.apply(KIND, _object(name, value, namespace=namespace, labels=labels))

    async def delete(self, name: str, *, namespace: str = "ns") -> None:
        await self.cluster.delete(KIND, Key(namespace, name))

    def told(self) -> list[Change]:
        """Changes since the last call."""
        told = self.changes.copy()
        self.changes.clear()
        return told

    @property
    def content(self) -> dict[str, str]:
        store = self.informer.store
        return {key.name: value for key in store.keys() if (value := store.get(key)) is not None}  # noqa: SIM118

    async def synced(self) -> None:
        await until(lambda: self.informer.synced and self.link.times("watch"))
        await settle()


async def test_everything_there_is_is_delivered_before_synced() -> None:
    world = World()
    await world.write("a", "1")
    await world.write("b", "2")
    async with running(world.informer.run()):
        assert not world.informer.synced
        await world.informer.wait_synced()
        assert world.told() == [("a", None, "1"), ("b", None, "2")]
        assert (world.content, world.informer.installed) == ({"a": "1", "b": "2"}, True)
        assert world.informer.store.by_index("value", "2") == ["2"]


async def test_additions_changes_and_deletions_arrive_by_the_watch_alone() -> None:
    world = World()
    async with running(world.informer.run()):
        await world.synced()
        await world.write("a", "1")
        await world.write("a", "2")
        await world.delete("a")
        await settle()
        assert world.told() == [("a", None, "1"), ("a", "1", "2"), ("a", "2", None)]
        assert (world.content, len(world.link.times("list"))) == ({}, 1)


async def test_long_lists_come_in_pages() -> None:
    world = World(page_size=2)
    for number in range(5):
        await world.write(f"o{number}", "x")
    async with running(world.informer.run()):
        await world.synced()
        assert len(world.content) == 5
        assert len(world.link.times("list")) == 3


async def test_a_page_token_that_expires_starts_the_list_over_without_telling_twice() -> None:
    world = World(page_size=2)
    for number in range(5):
        await world.write(f"o{number}", "x")
    lists = world.link.calls

    def compact_after_the_first_page(verb: str) -> None:
        if verb == "list" and len(lists) == 1:
            world.cluster.compact()

    world.link.after_call = compact_after_the_first_page
    async with running(world.informer.run()):
        await settle()
        assert not world.informer.synced
        await world.clock.advance(1)
        await world.synced()
        assert [name for name, _, _ in world.told()] == ["o0", "o1", "o2", "o3", "o4"]


async def test_a_cut_watch_goes_on_where_it_was_and_misses_nothing() -> None:
    world = World()
    await world.write("a", "1")
    async with running(world.informer.run()):
        await world.synced()
        world.told()
        world.cluster.cut_watches(KIND)
        await settle()
        await world.write("a", "2")
        await world.write("b", "1")
        await world.clock.advance(1)
        assert world.told() == [("a", "1", "2"), ("b", None, "1")]
        assert (len(world.link.times("list")), len(world.link.times("watch"))) == (1, 2)


async def test_a_deletion_during_an_outage_that_was_compacted_away_is_noticed_by_the_relist() -> None:
    world = World()
    for name in ("kept", "changed", "deleted"):
        await world.write(name, "1")
    async with running(world.informer.run()):
        await world.synced()
        world.told()
        world.cluster.fail_next("watch", KIND, Unavailable("no route"), times=3)
        world.cluster.cut_watches(KIND)
        await settle()
        await world.delete("deleted")
        await world.write("changed", "2")
        world.cluster.compact()
        await world.clock.advance(10)
        assert world.told() == [("changed", "1", "2"), ("deleted", "1", None)]
        assert world.content == {"kept": "1", "changed": "2"}
        assert len(world.link.times("list")) == 2
        await world.write("kept", "2")
        await settle()
        assert world.told() == [("kept", "1", "2")]


async def test_a_watch_that_lasted_its_time_is_renewed_at_once() -> None:
    world = World()
    async with running(world.informer.run()):
        await world.synced()
        await world.clock.advance(3600)
        watches = world.link.times("watch")
        assert 10 <= len(watches) <= 16
        assert all(240 <= after - before <= 361 for before, after in pairwise(watches))
        assert len(world.link.times("list")) == 1


async def test_watches_that_end_quickly_are_renewed_ever_more_slowly_and_calm_down_later() -> None:
    world = World()
    world.cluster.fail_next("watch", KIND, Unavailable("go away"), times=7)
    async with running(world.informer.run()):
        await world.clock.advance(60)
        watches = world.link.times("watch")
        assert len(watches) == 8
        for attempt, (before, after) in enumerate(pairwise(watches)):
            ceiling = 0.2 * 2**attempt
            assert ceiling / 2 <= after - before <= ceiling + 0.001
        world.cluster.cut_watches(KIND)
        await world.clock.advance(0.21)
        assert len(world.link.times("watch")) == 9


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    world = World()
    world.cluster.fail_next("list", KIND, TooManyRequests("busy", retry_after=7))
    async with running(world.informer.run()):
        await world.clock.advance(6.9)
        assert len(world.link.times("list")) == 1
        await world.clock.advance(0.2)
        assert world.informer.synced


@pytest.mark.parametrize("error", [Unavailable("500"), CircuitOpen("open"), Gone("expired")])
async def test_a_list_that_fails_is_repeated_until_it_succeeds(error: Unavailable | Gone) -> None:
    world = World()
    await world.write("a", "1")
    world.cluster.fail_next("list", KIND, error, times=5)
    async with running(world.informer.run()):
        await world.clock.advance(0.05)
        assert not world.informer.synced
        await world.clock.advance(20)
        assert (world.content, len(world.link.times("list"))) == ({"a": "1"}, 6)


async def test_a_list_that_hangs_is_given_up_and_repeated() -> None:
    world = World()
    await world.write("a", "1")
    world.link.down = True
    async with running(world.informer.run()):
        await world.clock.advance(LIST_TIMEOUT - 1)
        world.link.down = False
        assert len(world.link.times("list")) == 1
        await world.clock.advance(2)
        assert world.content == {"a": "1"}


async def test_a_watch_that_hangs_beyond_its_length_is_given_up_and_renewed() -> None:
    world = World()
    async with running(world.informer.run()):
        await until(lambda: world.informer.synced)
        world.link.down = True
        world.cluster.cut_watches(KIND)
        await world.clock.advance(1)
        await world.write("a", "1")
        world.link.down = False
        await world.clock.advance(391)
        assert world.content == {"a": "1"}


async def test_a_version_that_the_server_never_reaches_is_given_up_for_a_new_list() -> None:
    world = World()
    async with running(world.informer.run()):
        await world.synced()
        world.cluster.fail_next("watch", KIND, Unavailable("Too large resource version"), times=RELIST_AFTER + 1)
        world.cluster.cut_watches(KIND)
        await world.clock.advance(300)
        assert len(world.link.times("list")) == 2


async def test_bookmarks_move_the_version_past_changes_that_are_not_ours() -> None:
    world = World(selections=(Selection(namespace="ours"),))
    await world.write("a", "1", namespace="ours")
    async with running(world.informer.run()):
        await world.synced()
        for number in range(5):
            await world.write("b", str(number), namespace="theirs")
        await world.clock.advance(61)
        world.cluster.compact()
        world.cluster.cut_watches(KIND)
        await world.clock.advance(5)
        assert (len(world.link.times("list")), len(world.link.times("watch"))) == (1, 2)
        assert world.content == {"a": "1"}


async def test_one_object_that_cannot_be_read_is_absent_and_named_once() -> None:
    world = World()
    await world.write("bad", "poison")
    await world.write("good", "1")
    with capture_logs() as logs:
        async with running(world.informer.run()):
            await world.synced()
            await world.cluster.patch(KIND, Key("ns", "bad"), {"metadata": {"labels": {"x": "y"}}})
            await world.write("good", "poison")
            await settle()
            assert world.told() == [("good", None, "1"), ("good", "1", None)]
            await world.write("bad", "2")
            await settle()
            assert world.told() == [("bad", None, "2")]
    errors = [line for line in logs if line["log_level"] == "error"]
    assert [line["key"] for line in errors] == ["ns/bad", "ns/good"]
    assert "abc123" not in str(errors)


async def test_an_object_that_the_projection_does_not_want_is_absent() -> None:
    world = World()
    await world.write("a", "nothing")
    async with running(world.informer.run()):
        await world.synced()
        await world.write("a", "1")
        await world.write("a", "nothing")
        await settle()
        assert world.told() == [("a", None, "1"), ("a", "1", None)]


async def test_a_handler_that_fails_does_not_keep_others_from_hearing() -> None:
    world = World()

    def broken(key: Key, old: str | None, new: str | None) -> None:
        raise RuntimeError("bug")

    heard: list[Key] = []
    world.informer.on_change(broken)
    world.informer.on_change(lambda key, old, new: heard.append(key))
    await world.write("a", "1")
    with capture_logs() as logs:
        async with running(world.informer.run()):
            await world.synced()
    assert heard == [Key("ns", "a")]
    assert [line["key"] for line in logs if line["log_level"] == "error"] == ["ns/a"]


async def test_a_kind_that_is_not_installed_counts_as_synced_and_is_looked_for_rarely() -> None:
    world = World()
    world.cluster.uninstall(KIND)
    async with running(world.informer.run()):
        await world.informer.wait_synced()
        assert (world.informer.installed, world.content) == (False, {})
        await world.clock.advance(600)
        looks = world.link.times("list")
        assert 600 / 37 <= len(looks) <= 600 / 23
        assert len({round(after - before, 3) for before, after in pairwise(looks)}) > 5
        world.cluster.install(KIND)
        await world.write("a", "1")
        await world.clock.advance(40)
        assert (world.informer.installed, world.told()) == (True, [("a", None, "1")])
        await world.write("a", "2")
        await settle()
        assert world.content == {"a": "2"}


async def test_a_kind_that_is_uninstalled_takes_its_objects_along() -> None:
    world = World()
    await world.write("a", "1")
    async with running(world.informer.run()):
        await world.synced()
        world.told()
        world.cluster.uninstall(KIND)
        await world.clock.advance(5)
        assert (world.told(), world.informer.installed, world.informer.synced) == ([("a", "1", None)], False, True)


async def test_a_kind_that_was_uninstalled_during_an_outage_takes_its_objects_along() -> None:
    """Nobody was there to hear the deletions; when the kind is there again, its objects are news."""
    world = World()
    await world.write("a", "1")
    async with running(world.informer.run()):
        await world.synced()
        world.told()
        world.cluster.fail_next("watch", KIND, KindNotInstalled("the server could not find the requested resource"))
        world.cluster.cut_watches(KIND)
        await world.clock.advance(1)
        assert (world.told(), world.informer.installed) == ([("a", "1", None)], False)
        await world.clock.advance(40)
        assert (world.told(), world.informer.installed) == ([("a", None, "1")], True)


async def test_several_namespaces_are_followed_side_by_side() -> None:
    world = World(selections=(Selection(namespace="one"), Selection(namespace="two")))
    await world.write("a", "1", namespace="one")
    await world.write("b", "2", namespace="two")
    await world.write("c", "3", namespace="three")
    async with running(world.informer.run()):
        await world.synced()
        await world.write("d", "4", namespace="two")
        await settle()
        assert world.content == {"a": "1", "b": "2", "d": "4"}
        assert len(world.link.times("watch")) == 2


async def test_synced_waits_for_every_selection() -> None:
    world = World(selections=(Selection(namespace="one"), Selection(namespace="two")))
    world.cluster.fail_next("list", KIND, Unavailable("500"))
    async with running(world.informer.run()):
        await settle()
        assert not world.informer.synced
        await world.clock.advance(1)
        assert world.informer.synced


OVERLAPPING = (Selection(labels="x=1"), Selection(labels="y=1"))


async def test_an_object_stays_as_long_as_one_of_several_selections_has_it() -> None:
    world = World(selections=OVERLAPPING)
    await world.write("a", "1", labels={"x": "1", "y": "1"})
    async with running(world.informer.run()):
        await world.synced()
        await world.write("a", "2", labels={"y": "1"})
        await settle()
        assert world.told() == [("a", None, "1"), ("a", "1", "2")]
        await world.write("a", "3", labels={})
        await settle()
        assert world.told()[-1] == ("a", "2", None)
        assert world.content == {}


async def test_a_selection_that_lags_behind_does_not_bring_old_states_back() -> None:
    world = World(selections=OVERLAPPING)
    await world.write("a", "1", labels={"x": "1", "y": "1"})
    async with running(world.informer.run()):
        await world.synced()
        world.link.silent = {"x=1"}
        await world.write("a", "2", labels={"x": "1", "y": "1"})
        await world.write("a", "3", labels={"y": "1"})
        await settle()
        assert world.content == {"a": "3"}
        world.told()
        world.link.silent = set()
        await world.clock.advance(2)
        assert (world.told(), world.content) == ([], {"a": "3"})


async def test_a_huge_list_leaves_turns_of_the_loop_to_others() -> None:
    world = World(page_size=5000)
    for number in range(2000):
        await world.write(f"o{number}", "x")
    assert max(await _steps(world.informer)) <= SLICE


async def test_a_list_of_objects_that_take_long_to_read_leaves_more_turns() -> None:
    clock = StallingClock()
    cluster = MemoryCluster(clock=clock)
    for number in range(100):
        await cluster.apply(KIND, _object(f"o{number}", "x"))

    def slow(obj: Object) -> str:
        clock.stall(SLICE_SECONDS / 4)
        return "x"

    assert max(await _steps(Informer(cluster, KIND, slow, clock=clock))) <= 5


async def _steps(informer: Informer[str]) -> list[int]:
    """How many objects each turn of the loop took in, until the informer was synced."""
    sizes: list[int] = []

    async def look() -> None:
        while not informer.synced:
            sizes.append(len(informer.store))
            await asyncio.sleep(0)

    async with running(informer.run(), look()):
        await until(lambda: informer.synced)
    sizes.append(len(informer.store))
    return [after - before for before, after in pairwise(sizes)]


async def test_cancelling_ends_all_of_it() -> None:
    world = World(selections=OVERLAPPING)
    async with running(world.informer.run()) as [task]:
        await world.synced()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
