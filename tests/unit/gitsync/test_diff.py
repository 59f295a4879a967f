"""Desired manifests against what is there, without a cluster."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import Any

import pytest

from knative_lambda.api import meta
from knative_lambda.api.function import parse as parse_function
from knative_lambda.api.meta import Key
from knative_lambda.api.repository import InventoryItem
from knative_lambda.gitsync import desired as manifests
from knative_lambda.gitsync import diff
from knative_lambda.gitsync.desired import Frame
from knative_lambda.gitsync.diff import ClusterSeen, Memory, PrunePolicy, Revision, Written
from knative_lambda.gitsync.discovery import discover
from knative_lambda.gitsync.memory import Files, MemoryTree
from knative_lambda.gitsync.owned import owned_fields_match
from knative_lambda.resources.observed import FunctionSeen, project_function
from tests.unit.gitsync.stage import KEY, URL, function_files

FRAME = Frame(KEY, "team", URL, "main", None)
DEFAULTS, NOTHING = PrunePolicy(), Memory()
FIRST, SECOND = "1" * 40, "2" * 40


def revision(files: Files, commit: str = FIRST, frame: Frame = FRAME) -> Revision:
    return Revision(frame, commit, discover(MemoryTree(files), path="functions"))


def stored(one: manifests.Desired, *, version: str = "1", **metadata: Any) -> FunctionSeen:
    """The manifest as an API server keeps it: with defaults and a status."""
    obj = copy.deepcopy(one.manifest)
    obj["metadata"] |= {"uid": f"uid-{one.key.name}", "resourceVersion": version, "generation": 1, **metadata}
    obj["spec"].setdefault("scaling", {}).setdefault("minReplicas", 0)
    obj["status"] = {"phase": "Ready"}
    return project_function(obj)


def decided(
    wanted: Revision,
    *,
    seen: list[FunctionSeen] = [],  # noqa: B006 - never changed
    inventory: tuple[InventoryItem, ...] = (),
    policy: PrunePolicy = DEFAULTS,
    memory: Memory = NOTHING,
    written: dict[Key, Written] | None = None,
) -> diff.Changes:
    ours = {fn.key: fn for fn in seen if fn.repository == KEY}
    others = {fn.key: fn for fn in seen if fn.repository != KEY}
    return diff.decide(wanted, ClusterSeen(ours, others, inventory, written or {}), policy, memory)


def applied(wanted: Revision) -> tuple[list[FunctionSeen], tuple[InventoryItem, ...]]:
    """The cluster after everything of a revision was written."""
    changes = decided(wanted)
    return [stored(write.desired) for write in changes.apply], changes.inventory


def test_a_desired_manifest_is_a_valid_function() -> None:
    (write,) = decided(revision(function_files("hello"))).apply
    fn = parse_function(write.desired.manifest)
    assert fn.spec.source.git is not None
    assert (fn.spec.source.git.commit, fn.spec.source.git.ref, fn.spec.source.git.path) == (
        FIRST,
        "main",
        "functions/hello",
    )
    assert write.first


def test_what_is_as_desired_is_not_written() -> None:
    wanted = revision(function_files("a", "b"))
    seen, inventory = applied(wanted)
    changes = decided(wanted, seen=seen, inventory=inventory)
    assert (changes.apply, changes.delete, changes.unchanged) == ((), (), 2)
    assert changes.inventory == inventory


def test_a_new_commit_moves_only_the_pin_of_what_changed() -> None:
    seen, inventory = applied(revision(function_files("a", "b")))
    changed = {**function_files("a", "b"), "functions/a/main.py": "new"}
    changes = decided(revision(changed, SECOND), seen=seen, inventory=inventory)
    assert [(write.desired.key.name, write.desired.commit, write.first) for write in changes.apply] == [
        ("a", SECOND, False)
    ]
    assert {item.name: item.commit for item in changes.inventory} == {"a": SECOND, "b": FIRST}


def test_back_to_older_content_is_a_change_too() -> None:
    files = function_files("a")
    changed = {**files, "functions/a/main.py": "new"}
    seen, inventory = applied(revision(changed, SECOND))
    third = "3" * 40
    (write,) = decided(revision(files, third), seen=seen, inventory=inventory).apply
    assert write.desired.commit == third


def test_the_object_knows_its_pin_when_the_inventory_was_lost() -> None:
    files = function_files("a")
    seen, _ = applied(revision(files))
    changes = decided(revision(files, SECOND), seen=seen)
    assert changes.apply == ()
    assert changes.inventory[0].commit == FIRST


def test_a_pin_that_a_hand_wrote_is_not_believed() -> None:
    files = function_files("a")
    (write,) = decided(revision(files)).apply
    obj = copy.deepcopy(write.desired.manifest)
    obj["metadata"]["uid"] = "u"
    obj["metadata"]["annotations"][meta.ANNOTATION_REVISION] = "--upload-pack=x"
    (again,) = decided(revision(files, SECOND), seen=[project_function(obj)]).apply
    assert again.desired.commit == SECOND


def test_another_repository_address_is_another_content() -> None:
    files = function_files("a")
    seen, inventory = applied(revision(files))
    moved = Frame(KEY, "team", "https://git.example.com/fork.git", "main", None)
    (write,) = decided(revision(files, SECOND, moved), seen=seen, inventory=inventory).apply
    assert write.desired.commit == SECOND


def test_the_apply_waits_for_an_object_that_is_going() -> None:
    wanted = revision(function_files("a"))
    (write,) = decided(wanted).apply
    going = stored(write.desired, deletionTimestamp="2026-01-01T00:00:00Z")
    changes = decided(wanted, seen=[going])
    assert (changes.apply, changes.going) == ((), (Key("team", "a"),))


def test_a_function_of_another_repository_is_left_alone() -> None:
    wanted = revision(function_files("a"))
    other = Frame(Key("team", "other"), "team", URL, "main", None)
    (write,) = decided(revision(function_files("a"), frame=other)).apply
    changes = decided(wanted, seen=[stored(write.desired)])
    assert changes.apply == ()
    assert changes.inventory == ()
    assert "does not own" in changes.findings[0].message


def test_a_write_that_the_cache_does_not_show_yet_is_not_repeated() -> None:
    wanted = revision(function_files("a"))
    (write,) = decided(wanted).apply
    note = {write.desired.key: Written("uid-a", "7", write.desired.digest, at=0.0)}
    assert decided(wanted, written=note).unconfirmed == 1
    assert decided(wanted, seen=[stored(write.desired, version="6")], written=note).unconfirmed == 1
    assert decided(wanted, seen=[stored(write.desired, version="7")], written=note).unchanged == 1
    other = stored(write.desired, version="3", uid="recreated", labels=write.desired.manifest["metadata"]["labels"])
    assert decided(wanted, seen=[other], written=note).unconfirmed == 0


def test_what_the_cache_does_not_show_yet_cannot_be_pruned_and_is_not_forgotten() -> None:
    before = revision(function_files("a", "b"))
    changes = decided(before)
    written = {write.desired.key: Written("u", "7", write.desired.digest, at=0.0) for write in changes.apply}
    after = decided(revision(function_files("a"), SECOND), inventory=changes.inventory, written=written)
    assert [item.name for item in after.inventory] == ["a", "b"]


def pruned(keep: int, of: int, policy: PrunePolicy = DEFAULTS) -> diff.Changes:
    names = [f"f{number:03}" for number in range(of)]
    seen, inventory = applied(revision(function_files(*names)))
    files = {"functions/README.md": "", **function_files(*names[:keep])}
    return decided(revision(files, SECOND), seen=seen, inventory=inventory, policy=policy)


@pytest.mark.parametrize(
    ("keep", "of", "guarded"),
    [(0, 1, True), (0, 5, True), (1, 11, False), (9, 20, True), (10, 20, False), (10, 21, True), (90, 100, False)],
)
def test_the_guard_stops_deletions_that_look_like_a_mistake(keep: int, of: int, guarded: bool) -> None:
    changes = pruned(keep, of)
    assert bool(changes.guarded) is guarded
    assert len(changes.delete) == (0 if guarded else of - keep)
    assert len(changes.inventory) == (of if guarded else keep)


@pytest.mark.parametrize(("allowed", "lifted"), [(SECOND, True), (f"main@{SECOND}", True), (FIRST, False), ("", False)])
def test_the_guard_is_lifted_for_one_revision(allowed: str, lifted: bool) -> None:
    assert len(pruned(0, 5, PrunePolicy(allowed=allowed)).delete) == (5 if lifted else 0)


def test_without_prune_there_is_nothing_to_guard() -> None:
    changes = pruned(0, 5, PrunePolicy(prune=False))
    assert (changes.delete, changes.guarded, len(changes.inventory)) == ((), "", 5)


def test_a_broken_declaration_still_declares() -> None:
    seen, inventory = applied(revision(function_files("a", "b")))
    broken = {**function_files("a", "b"), "functions/a/function.yaml": "spec: ["}
    changes = decided(revision(broken, SECOND), seen=seen, inventory=inventory)
    assert changes.delete == ()
    assert [item.commit for item in changes.inventory] == [FIRST, FIRST]


def test_a_function_that_is_no_longer_ours_is_not_deleted() -> None:
    seen, inventory = applied(revision(function_files("a", "b")))
    (write, _) = decided(revision(function_files("a", "b"))).apply
    theirs = stored(write.desired, labels={})
    changes = decided(revision(function_files("b"), SECOND), seen=[theirs, *seen[1:]], inventory=inventory)
    assert changes.delete == ()


# Ownership of fields.

BASE = {
    "metadata": {"labels": {"a": "1"}, "finalizers": ["x"]},
    "spec": {"env": [{"name": "A", "value": "1"}], "triggers": [{"broker": "b"}], "scaling": {"minReplicas": 1}},
}


def edited(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    obj: Any = copy.deepcopy(BASE)
    node = obj
    for step in path[:-1]:
        node = node[step]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return obj  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("spec", "scaling", "maxReplicas"), 50, True),
        (("metadata", "labels", "b"), "2", True),
        (("metadata", "finalizers"), ["y", "x"], True),
        (("spec", "triggers", 0, "filter"), {}, True),
        (("spec", "env"), [{"name": "Z"}, {"name": "A", "value": "1"}], True),
        (("spec", "scaling", "minReplicas"), 2, False),
        (("spec", "scaling", "minReplicas"), True, False),
        (("spec", "scaling"), None, False),
        (("metadata", "labels", "a"), None, False),
        (("metadata", "finalizers"), [], False),
        (("spec", "triggers"), [], False),
        (("spec", "triggers"), [{"broker": "b"}, {"broker": "c"}], False),
        (("spec", "env"), [{"name": "A", "value": "2"}], False),
        (("spec", "env"), [], False),
    ],
)
def test_only_fields_that_git_wrote_count(path: tuple[Any, ...], value: Any, match: bool) -> None:
    assert owned_fields_match(BASE, BASE)
    assert owned_fields_match(BASE, edited(path, value)) is match


# Cost.


def test_a_thousand_functions_are_compared_in_milliseconds() -> None:
    files = function_files(*(f"f{number:04}" for number in range(1000)))
    wanted = revision(files)
    seen, inventory = applied(wanted)
    first = decided(wanted, seen=seen, inventory=inventory)
    unreadable = [dataclasses.replace(fn, raw=b"not read again") for fn in seen]
    begin = time.process_time()
    again = decided(wanted, seen=unreadable, inventory=inventory, memory=first.memory)
    assert again.unchanged == 1000
    assert again.memory.desired == first.memory.desired
    assert all(again.memory.desired[key] is one for key, one in first.memory.desired.items())
    assert time.process_time() - begin < 0.5  # 4 ms on a quiet machine
