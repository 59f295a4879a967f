"""Server-side apply as a pure function: what structured-merge-diff decides in the corners that we may meet."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda.cluster import fieldownership
from knative_lambda.cluster.base import Object
from knative_lambda.cluster.fieldownership import APPLY, UPDATE, Owners

pytestmark = pytest.mark.unit

SCHEMA: dict[str, Any] = {
    "properties": {
        "ports": {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {"properties": {"protocol": {"default": "TCP"}}},
        },
        "selector": {"x-kubernetes-map-type": "atomic"},
        "labels": {"additionalProperties": {}},
        "set": {"x-kubernetes-list-type": "set"},
        "list": {},
    }
}


def applied(live: Object, wanted: Object, owners: Owners | None = None, manager: str = "me") -> fieldownership.Applied:
    return fieldownership.apply(live, wanted, schema=SCHEMA, owners=owners or {}, manager=manager)


def test_an_atomic_map_is_one_field() -> None:
    first = applied({}, {"selector": {"a": "1", "b": "2"}})
    assert first.owners == {("me", APPLY): {("selector",)}}
    second = applied(first.obj, {"selector": {"a": "1"}}, first.owners)
    assert second.obj == {"selector": {"a": "1"}}


def test_items_with_two_keys_are_told_apart_and_a_default_counts_as_key() -> None:
    first = applied({}, {"ports": [{"port": 80, "name": "x"}, {"port": 80, "protocol": "UDP"}]})
    second = applied(first.obj, {"ports": [{"port": 80, "protocol": "TCP", "name": "y"}]}, first.owners)
    assert second.obj["ports"] == [{"port": 80, "protocol": "TCP", "name": "y"}]


def test_an_item_of_others_keeps_its_keys_when_we_leave() -> None:
    ours = applied({}, {"ports": [{"port": 80, "name": "x"}]})
    theirs = applied(ours.obj, {"ports": [{"port": 80, "weight": 3}]}, ours.owners, manager="other")
    left = applied(theirs.obj, {}, theirs.owners)
    assert left.obj == {"ports": [{"port": 80, "weight": 3}]}
    gone = applied(left.obj, {}, left.owners, manager="other")
    assert gone.obj == {}


def test_a_map_that_is_emptied_though_somebody_wants_it_is_told() -> None:
    first = applied({}, {"labels": {"a": "1"}})
    assert first.emptied == frozenset()
    assert applied(first.obj, {"labels": {}}, first.owners).emptied == {("labels",)}
    other = applied(first.obj, {"labels": {}}, first.owners, manager="other")
    assert other.obj == {"labels": {"a": "1"}}
    left = applied(other.obj, {}, other.owners)
    assert (left.obj, left.emptied) == ({}, {("labels",)})
    assert applied(first.obj, {}, first.owners).emptied == frozenset()


def test_a_map_that_becomes_a_value_and_back() -> None:
    first = applied({}, {"labels": {"a": {"x": 1}}})
    second = applied(first.obj, {"labels": {"a": "text"}}, first.owners)
    assert second.obj == {"labels": {"a": "text"}}
    third = applied(second.obj, {"labels": {"a": {"y": 2}}}, second.owners)
    assert third.obj == {"labels": {"a": {"y": 2}}}


def test_nothing_of_the_live_object_is_changed_in_place() -> None:
    live = {"labels": {"a": "1", "b": "2"}, "set": ["x", "y"], "ports": [{"port": 1}]}
    owners = {("me", APPLY): fieldownership.fields_of(live, SCHEMA)}
    outcome = applied(live, {"labels": {"b": "2"}}, owners)
    assert outcome.obj == {"labels": {"b": "2"}}
    assert live == {"labels": {"a": "1", "b": "2"}, "set": ["x", "y"], "ports": [{"port": 1}]}


def test_conflicts_name_the_owner_and_his_fields_alone() -> None:
    theirs = applied({}, {"labels": {"a": "1", "b": "2"}, "list": [1]}, manager="other")
    ours = applied(theirs.obj, {"labels": {"a": "9", "b": "2", "c": "3"}}, theirs.owners)
    assert ours.conflicts == {("other", APPLY): {("labels", "a")}}
    assert ours.owners[("other", APPLY)] == {("labels", "b"), ("list",)}
    assert ours.owners[("me", APPLY)] == {("labels", "a"), ("labels", "b"), ("labels", "c")}


def test_a_plain_writer_owns_what_he_changed_and_nobody_owns_what_he_removed() -> None:
    ours = applied({}, {"labels": {"a": "1", "b": "2", "c": "3"}})
    new = {"labels": {"a": "9", "b": "2"}}
    owners = fieldownership.update(ours.obj, new, schema=SCHEMA, owners=ours.owners, manager="hand")
    assert owners == {("me", APPLY): {("labels", "b")}, ("hand", UPDATE): {("labels", "a")}}


def test_a_write_without_change_moves_no_ownership() -> None:
    ours = applied({}, {"labels": {"a": "1"}})
    assert (
        fieldownership.update(ours.obj, dict(ours.obj), schema=SCHEMA, owners=ours.owners, manager="x") is ours.owners
    )


def test_identity_and_what_the_server_writes_have_no_owner() -> None:
    metadata = {
        "name": "a",
        "namespace": "b",
        "uid": "c",
        "resourceVersion": "1",
        "generation": 1,
        "labels": {"x": "y"},
    }
    obj = {"apiVersion": "v1", "kind": "K", "metadata": metadata}
    assert fieldownership.fields_of(obj, {}) == {("metadata", "labels", "x")}


def test_paths_are_spelled_as_the_server_spells_them() -> None:
    fields = fieldownership.fields_of({"ports": [{"port": 80, "name": "x"}], "set": ["v"]}, SCHEMA)
    assert sorted(map(fieldownership.spelled, fields)) == [
        '.ports[port="80",protocol="TCP"]',
        '.ports[port="80",protocol="TCP"].name',
        ".set[='v']",
    ]
