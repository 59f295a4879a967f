"""One suite for every adapter of cluster.base.Cluster: what an API server does, MemoryCluster does, too."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from knative_lambda.api.kinds import CONFIG_MAP, JOB, LEASE, NAMESPACE, POD, SECRET
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import (
    AlreadyExists,
    Conflict,
    EventKind,
    Gone,
    Invalid,
    KindNotInstalled,
    NotFound,
    Object,
    Selection,
    Unavailable,
    WatchEvent,
)
from tests.contract.conftest import WIDGET, Place

pytestmark = pytest.mark.contract

ABSENT = Kind("absent.lambda.knative.io", "v1", "ghosts", "Ghost")
UNKNOWN_IN_KNOWN_GROUP = Kind("batch", "v1", "ghosts", "Ghost")
_names = (f"thing-{number}" for number in itertools.count())


def widget(place: Place, name: str = "", /, *, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    metadata: Object = {"name": name or next(_names), "namespace": place.namespace}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": WIDGET.api_version, "kind": "Widget", "metadata": metadata, "spec": spec}


def config_map(place: Place, name: str = "", /, *, owners: list[Object] | None = None, **data: str) -> Object:
    metadata: Object = {"name": name or next(_names), "namespace": place.namespace}
    if owners:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": one["metadata"]["name"],
                "uid": one["metadata"]["uid"],
                "blockOwnerDeletion": True,
            }
            for one in owners
        ]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def lease(place: Place, name: str, holder: str) -> Object:
    metadata = {"name": name, "namespace": place.namespace}
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15}
    return {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": metadata, "spec": spec}


def job(place: Place, name: str, *, image: str = "example.org/a:1") -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": place.namespace},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


def key_of(obj: Object) -> Key:
    return Key(obj["metadata"]["namespace"], obj["metadata"]["name"])


def version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


async def exists(place: Place, kind: Kind, key: Key) -> bool:
    try:
        await place.cluster.get(kind, key)
    except NotFound:
        return False
    return True


async def gone(place: Place, kind: Kind, obj: Object) -> None:
    async def is_gone() -> bool:
        return not await exists(place, kind, key_of(obj))

    await place.eventually(is_gone, f"{key_of(obj)} is gone")


async def collected(
    stream: AsyncIterator[WatchEvent], *, until: int | None = None, bookmarks: bool = False
) -> list[WatchEvent]:
    """Events of a watch: so many, or all until it ends by itself."""
    found: list[WatchEvent] = []
    async with asyncio.timeout(20), contextlib.aclosing(stream) as events:  # type: ignore[type-var]
        async for event in events:
            if bookmarks or event.kind is not EventKind.BOOKMARK:
                found.append(event)
            if len(found) == until:
                break
    return found


def told(events: list[WatchEvent]) -> list[tuple[str, str]]:
    return [(event.kind.value, event.object["metadata"]["name"]) for event in events]


class TestCreate:
    async def test_a_new_object_has_what_the_server_adds(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place, "a", size=3))
        metadata = made["metadata"]
        assert metadata["uid"]
        assert metadata["generation"] == 1
        assert metadata["creationTimestamp"].endswith("Z")
        assert int(version(made)) > 0
        assert "managedFields" not in metadata
        assert await place.cluster.get(WIDGET, Key(place.namespace, "a")) == made

    async def test_a_name_is_taken_only_once(self, place: Place) -> None:
        await place.cluster.create(WIDGET, widget(place, "a"))
        with pytest.raises(AlreadyExists, match='"a" already exists'):
            await place.cluster.create(WIDGET, widget(place, "a"))

    async def test_a_deleted_name_comes_back_as_another_object(self, place: Place) -> None:
        first = await place.cluster.create(WIDGET, widget(place, "a"))
        await place.cluster.delete(WIDGET, key_of(first))
        second = await place.cluster.create(WIDGET, widget(place, "a"))
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        assert int(version(second)) > int(version(first))

    async def test_generate_name_makes_different_names(self, place: Place) -> None:
        wanted = widget(place)
        wanted["metadata"] = {"generateName": "gen-", "namespace": place.namespace}
        names = {(await place.cluster.create(WIDGET, wanted))["metadata"]["name"] for _ in range(3)}
        assert len(names) == 3
        assert all(name.startswith("gen-") and len(name) == 9 for name in names)

    async def test_defaults_are_filled_in_also_below_a_default(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place, parts=[{"name": "p"}], options=None))
        assert made["spec"] == {"size": 1, "options": {"mode": "plain"}, "parts": [{"name": "p", "count": 1}]}

    async def test_status_is_not_for_the_creator(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, {**widget(place), "status": {"phase": "Fine"}})
        assert "status" not in made

    @pytest.mark.parametrize(
        ("spec", "complaint"),
        [
            ({"size": "three"}, "spec.size"),
            ({"size": 101}, "spec.size"),
            ({"color": "pink"}, "spec.color"),
            ({"name": "UPPER"}, "spec.name"),
            ({"name": "a" * 21}, "spec.name"),
            ({"weight": 1.5}, "spec.weight"),
            ({"extra": {"a": 1}}, "spec.extra"),
            ({"parts": [{"count": 1}]}, "spec.parts"),
        ],
    )
    async def test_what_the_schema_forbids_is_refused(self, place: Place, spec: Object, complaint: str) -> None:
        with pytest.raises(Invalid, match=complaint.replace(".", r"\.")):
            await place.cluster.create(WIDGET, widget(place, **spec))

    @pytest.mark.parametrize("weight", [5, "5Gi"])
    async def test_integers_and_strings_are_both_quantities(self, place: Place, weight: int | str) -> None:
        made = await place.cluster.create(WIDGET, widget(place, weight=weight))
        assert made["spec"]["weight"] == weight

    async def test_an_unknown_field_is_refused_by_name(self, place: Place) -> None:
        with pytest.raises(Invalid, match=r'unknown field "spec\.colour"'):
            await place.cluster.create(WIDGET, widget(place, colour="red"))

    async def test_free_parts_keep_unknown_fields(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place, free={"x": {"y": [1, {"z": None}]}}))
        assert made["spec"]["free"]["x"]["y"][0] == 1

    @pytest.mark.parametrize(
        "metadata",
        [
            {"name": "Upper"},
            {"name": "-a"},
            {"name": "a" * 254},
            {"labels": {"a b": "c"}},
            {"labels": {"a": "c d"}},
            {"labels": {"a": "x" * 64}},
            {"annotations": {"a": "x" * (256 * 1024)}},
            {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": ""}]},
            {"resourceVersion": "5"},
        ],
    )
    async def test_bad_metadata_is_refused(self, place: Place, metadata: Object) -> None:
        wanted = widget(place)
        wanted["metadata"] |= metadata
        with pytest.raises(Invalid):
            await place.cluster.create(WIDGET, wanted)

    async def test_a_namespaced_object_needs_its_namespace(self, place: Place) -> None:
        wanted = widget(place)
        del wanted["metadata"]["namespace"]
        with pytest.raises(Invalid, match="namespace"):
            await place.cluster.create(WIDGET, wanted)

    async def test_an_object_needs_a_name(self, place: Place) -> None:
        wanted = widget(place)
        del wanted["metadata"]["name"]
        with pytest.raises(Invalid, match="name"):
            await place.cluster.create(WIDGET, wanted)

    async def test_an_object_of_another_kind_is_refused(self, place: Place) -> None:
        with pytest.raises(Invalid):
            await place.cluster.create(WIDGET, config_map(place))

    async def test_what_is_not_json_is_refused(self, place: Place) -> None:
        with pytest.raises(Invalid, match="not JSON"):
            await place.cluster.create(WIDGET, widget(place, name=object()))

    async def test_the_sent_object_is_not_kept(self, place: Place) -> None:
        wanted = widget(place, "a", notes=["x"])
        made = await place.cluster.create(WIDGET, wanted)
        wanted["spec"]["notes"].append("y")
        made["spec"]["notes"].append("z")
        assert (await place.cluster.get(WIDGET, key_of(wanted)))["spec"]["notes"] == ["x"]

    async def test_a_secret_has_no_generation(self, place: Place) -> None:
        made = await place.cluster.create(
            SECRET, {"metadata": {"name": "s", "namespace": place.namespace}, "stringData": {}, "data": {"a": "YQ=="}}
        )
        assert made["data"] == {"a": "YQ=="}
        assert "generation" not in made["metadata"]
        assert made["kind"] == "Secret"


class TestUnknownKinds:
    @pytest.mark.parametrize("kind", [ABSENT, UNKNOWN_IN_KNOWN_GROUP], ids=["group", "kind"])
    async def test_a_kind_that_is_not_installed_says_so(self, place: Place, kind: Kind) -> None:
        obj = {"apiVersion": kind.api_version, "kind": "Ghost", "metadata": {"name": "a", "namespace": place.namespace}}
        with pytest.raises(KindNotInstalled):
            await place.cluster.get(kind, Key(place.namespace, "a"))
        with pytest.raises(KindNotInstalled):
            await place.cluster.list(kind)
        with pytest.raises(KindNotInstalled):
            await place.cluster.create(kind, obj)
        with pytest.raises(KindNotInstalled):
            await place.cluster.apply(kind, obj)
        with pytest.raises(KindNotInstalled):
            await anext(place.cluster.watch(kind, resource_version="1"))
        assert not await place.cluster.served(kind)

    async def test_a_missing_object_is_not_a_missing_kind(self, place: Place) -> None:
        with pytest.raises(NotFound) as caught:
            await place.cluster.get(WIDGET, Key(place.namespace, "nobody"))
        assert not isinstance(caught.value, KindNotInstalled)
        assert "nobody" in caught.value.message

    @pytest.mark.parametrize("kind", [WIDGET, JOB, POD, LEASE, NAMESPACE], ids=str)
    async def test_installed_kinds_are_served(self, place: Place, kind: Kind) -> None:
        assert await place.cluster.served(kind)

    async def test_a_kind_without_status_has_no_status_subresource(self, place: Place) -> None:
        made = await place.cluster.create(CONFIG_MAP, config_map(place))
        with pytest.raises(NotFound):
            await place.cluster.patch(CONFIG_MAP, key_of(made), {"status": {"a": "b"}}, subresource="status")


class TestPatch:
    async def test_null_removes_and_values_replace(self, place: Place) -> None:
        made = await place.cluster.create(
            WIDGET, widget(place, color="red", notes=["a", "b"], extra={"a": "1", "b": "2"})
        )
        patch = {"spec": {"color": None, "notes": ["c"], "extra": {"a": None, "c": "3"}}}
        changed = await place.cluster.patch(WIDGET, key_of(made), patch)
        assert changed["spec"] == {
            "size": 1, "options": {"mode": "plain"}, "notes": ["c"], "extra": {"b": "2", "c": "3"},
        }  # fmt: skip
        assert await place.cluster.get(WIDGET, key_of(made)) == changed

    async def test_generation_counts_changes_of_the_spec_alone(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        labelled = await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"labels": {"a": "b"}}})
        assert labelled["metadata"]["generation"] == 1
        assert int(version(labelled)) > int(version(made))
        resized = await place.cluster.patch(WIDGET, key_of(made), {"spec": {"size": 5}})
        assert resized["metadata"]["generation"] == 2
        assert resized["metadata"]["labels"] == {"a": "b"}

    async def test_a_patch_that_changes_nothing_writes_nothing(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place, size=5))
        assert await place.cluster.patch(WIDGET, key_of(made), {"spec": {"size": 5}}) == made

    async def test_a_patch_for_an_older_version_conflicts(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        guarded = {"metadata": {"resourceVersion": version(made)}, "spec": {"size": 2}}
        await place.cluster.patch(WIDGET, key_of(made), guarded)
        with pytest.raises(Conflict):
            await place.cluster.patch(WIDGET, key_of(made), {**guarded, "spec": {"size": 3}})
        with pytest.raises(Conflict):
            await place.cluster.patch(WIDGET, key_of(made), {**guarded, "status": {"phase": "x"}}, subresource="status")

    async def test_a_patch_for_another_object_of_that_name_conflicts(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        with pytest.raises(Conflict):
            await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"uid": "somebody-else"}, "spec": {"size": 3}})

    async def test_a_patch_needs_its_object(self, place: Place) -> None:
        patch: Object = {"status": {"phase": "x"}}
        for subresource in ("", "status"):
            with pytest.raises(NotFound) as caught:
                await place.cluster.patch(WIDGET, Key(place.namespace, "nobody"), patch, subresource=subresource)
            assert not isinstance(caught.value, KindNotInstalled)

    async def test_status_is_written_only_through_its_subresource(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place, size=2))
        patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"size": 9}, "status": {"phase": "Fine"}}
        through = await place.cluster.patch(WIDGET, key_of(made), patch, subresource="status")
        assert (through["spec"], through["status"]) == (made["spec"], {"phase": "Fine"})
        assert through["metadata"]["generation"] == 1
        assert "labels" not in through["metadata"]
        beside = await place.cluster.patch(WIDGET, key_of(made), {"spec": {"size": 3}, "status": {"phase": "Bad"}})
        assert (beside["spec"]["size"], beside["status"]) == (3, {"phase": "Fine"})

    async def test_a_patch_drops_unknown_fields(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        changed = await place.cluster.patch(WIDGET, key_of(made), {"spec": {"colour": "red", "size": 2}})
        assert changed["spec"] == {"size": 2, "options": {"mode": "plain"}}

    async def test_a_patch_is_validated(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        for patch in ({"spec": {"size": -1}}, {"spec": None}, {"metadata": {"labels": {"a": "b c"}}}):
            with pytest.raises(Invalid):
                await place.cluster.patch(WIDGET, key_of(made), patch)
        with pytest.raises(Invalid):
            await place.cluster.patch(WIDGET, key_of(made), {"status": {"phase": 1}}, subresource="status")
        assert await place.cluster.get(WIDGET, key_of(made)) == made

    async def test_concurrent_patches_all_count(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        patches = [{"spec": {"extra": {f"k{number}": "v"}}} for number in range(20)]
        await asyncio.gather(*(place.cluster.patch(WIDGET, key_of(made), patch) for patch in patches))
        assert len((await place.cluster.get(WIDGET, key_of(made)))["spec"]["extra"]) == 20

    async def test_the_template_of_a_job_never_changes(self, place: Place) -> None:
        made = await place.cluster.create(JOB, job(place, "j"))
        containers = [{"name": "main", "image": "example.org/b:1"}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        with pytest.raises(Invalid, match="immutable"):
            await place.cluster.patch(JOB, key_of(made), patch)
        await place.cluster.patch(JOB, key_of(made), {"metadata": {"labels": {"a": "b"}}})


class TestReplace:
    async def test_a_lease_changes_hands_once_per_version(self, place: Place) -> None:
        made = await place.cluster.create(LEASE, lease(place, "leader", "first"))
        taken = await place.cluster.replace(LEASE, {**made, "spec": {**made["spec"], "holderIdentity": "second"}})
        assert taken["spec"]["holderIdentity"] == "second"
        assert taken["metadata"]["uid"] == made["metadata"]["uid"]
        with pytest.raises(Conflict):
            await place.cluster.replace(LEASE, {**made, "spec": {**made["spec"], "holderIdentity": "third"}})

    async def test_of_many_who_replace_one_wins(self, place: Place) -> None:
        made = await place.cluster.create(LEASE, lease(place, "leader", ""))
        tries = [{**made, "spec": {**made["spec"], "holderIdentity": f"h{number}"}} for number in range(10)]
        outcomes = await asyncio.gather(*(place.cluster.replace(LEASE, one) for one in tries), return_exceptions=True)
        assert sum(isinstance(outcome, dict) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 9

    async def test_a_replacement_must_name_its_version(self, place: Place) -> None:
        await place.cluster.create(LEASE, lease(place, "leader", "first"))
        with pytest.raises(Invalid, match="resourceVersion"):
            await place.cluster.replace(LEASE, lease(place, "leader", "second"))

    async def test_what_is_not_in_the_replacement_is_gone(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place, labels={"a": "b"}, color="red", size=3))
        metadata = {name: value for name, value in made["metadata"].items() if name != "labels"}
        replaced = await place.cluster.replace(WIDGET, {**made, "metadata": metadata, "spec": {"color": "blue"}})
        assert replaced["spec"] == {"color": "blue", "size": 1, "options": {"mode": "plain"}}
        assert "labels" not in replaced["metadata"]
        assert replaced["metadata"]["generation"] == 2

    async def test_status_alone_can_be_replaced(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place, size=3))
        wanted = {**made, "spec": {"size": 9}, "status": {"phase": "Fine"}}
        replaced = await place.cluster.replace(WIDGET, wanted, subresource="status")
        assert (replaced["spec"]["size"], replaced["status"]) == (3, {"phase": "Fine"})
        beside = await place.cluster.replace(WIDGET, {**replaced, "status": {"phase": "Bad"}})
        assert beside["status"] == {"phase": "Fine"}

    async def test_a_deleted_object_cannot_be_replaced(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        await place.cluster.delete(WIDGET, key_of(made))
        with pytest.raises((NotFound, Conflict)):
            await place.cluster.replace(WIDGET, made)


class TestApply:
    async def test_the_first_apply_creates_and_the_same_again_writes_nothing(self, place: Place) -> None:
        wanted = widget(place, "a", color="red", parts=[{"name": "p"}])
        made = await place.cluster.apply(WIDGET, wanted)
        assert made["metadata"]["generation"] == 1
        assert made["spec"]["parts"] == [{"name": "p", "count": 1}]
        assert "managedFields" not in made["metadata"]
        assert await place.cluster.apply(WIDGET, wanted) == made

    async def test_a_field_no_longer_sent_goes_away(self, place: Place) -> None:
        await place.cluster.apply(WIDGET, widget(place, "a", color="red", extra={"a": "1", "b": "2"}, notes=["x"]))
        changed = await place.cluster.apply(WIDGET, widget(place, "a", extra={"a": "1"}))
        assert changed["spec"] == {"size": 1, "options": {"mode": "plain"}, "extra": {"a": "1"}}
        assert changed["metadata"]["generation"] == 2

    async def test_a_default_comes_back_when_the_field_is_no_longer_sent(self, place: Place) -> None:
        await place.cluster.apply(WIDGET, widget(place, "a", size=7, options={"mode": "fast", "level": 1}))
        changed = await place.cluster.apply(WIDGET, widget(place, "a", options={"level": 1}))
        assert changed["spec"] == {"size": 1, "options": {"mode": "plain", "level": 1}}

    async def test_the_last_label_takes_the_labels_with_it(self, place: Place) -> None:
        await place.cluster.apply(WIDGET, widget(place, "a", labels={"x": "y"}))
        changed = await place.cluster.apply(WIDGET, widget(place, "a"))
        assert "labels" not in changed["metadata"]

    async def test_fields_of_others_stay(self, place: Place) -> None:
        await place.cluster.apply(WIDGET, widget(place, "a", labels={"ours": "1"}, color="red"))
        other = widget(place, "a", labels={"theirs": "1"}, name="bob")
        await place.cluster.apply(WIDGET, other, manager="other")
        changed = await place.cluster.apply(WIDGET, widget(place, "a"))
        assert changed["metadata"]["labels"] == {"theirs": "1"}
        assert changed["spec"]["name"] == "bob"
        assert "color" not in changed["spec"]

    async def test_a_field_of_two_owners_goes_with_the_last(self, place: Place) -> None:
        await place.cluster.apply(WIDGET, widget(place, "a", color="red"))
        await place.cluster.apply(WIDGET, widget(place, "a", color="red"), manager="other", force=False)
        assert (await place.cluster.apply(WIDGET, widget(place, "a")))["spec"]["color"] == "red"
        assert "color" not in (await place.cluster.apply(WIDGET, widget(place, "a"), manager="other"))["spec"]

    async def test_another_value_for_anothers_field_is_a_conflict(self, place: Place) -> None:
        made = await place.cluster.apply(WIDGET, widget(place, "a", color="red"))
        with pytest.raises(Conflict, match=r"knative-lambda.*\.spec\.color"):
            await place.cluster.apply(WIDGET, widget(place, "a", color="blue"), manager="other", force=False)
        assert await place.cluster.get(WIDGET, key_of(made)) == made

    async def test_force_takes_the_field_over(self, place: Place) -> None:
        await place.cluster.apply(WIDGET, widget(place, "a", color="red"))
        taken = await place.cluster.apply(WIDGET, widget(place, "a", color="blue"), manager="other")
        assert taken["spec"]["color"] == "blue"
        kept = await place.cluster.apply(WIDGET, widget(place, "a"))
        assert kept["spec"]["color"] == "blue"
        with pytest.raises(Conflict, match="other"):
            await place.cluster.apply(WIDGET, widget(place, "a", color="red"), force=False)

    async def test_a_hand_edit_of_our_field_is_set_back_and_others_are_left(self, place: Place) -> None:
        wanted = widget(place, "a", color="red")
        made = await place.cluster.apply(WIDGET, wanted)
        await place.cluster.patch(WIDGET, key_of(made), {"spec": {"color": "green", "name": "byhand"}})
        mended = await place.cluster.apply(WIDGET, wanted)
        assert (mended["spec"]["color"], mended["spec"]["name"]) == ("red", "byhand")

    async def test_list_items_are_owned_one_by_one(self, place: Place) -> None:
        ours = [{"name": "a", "count": 1}, {"name": "b", "hint": "x"}]
        await place.cluster.apply(WIDGET, widget(place, "w", parts=ours))
        theirs = [{"name": "c"}, {"name": "b", "count": 4}]
        both = await place.cluster.apply(WIDGET, widget(place, "w", parts=theirs), manager="other")
        assert sorted(both["spec"]["parts"], key=lambda part: str(part["name"])) == [
            {"name": "a", "count": 1},
            {"name": "b", "hint": "x", "count": 4},
            {"name": "c", "count": 1},
        ]
        left = await place.cluster.apply(WIDGET, widget(place, "w"))
        assert sorted(left["spec"]["parts"], key=lambda part: str(part["name"])) == [
            {"name": "b", "count": 4},
            {"name": "c", "count": 1},
        ]

    async def test_sets_are_united_and_plain_lists_replaced(self, place: Place) -> None:
        await place.cluster.apply(WIDGET, widget(place, "w", tags=["a", "b"], notes=["a", "b"]))
        other = widget(place, "w", tags=["b", "c"], notes=["z"])
        both = await place.cluster.apply(WIDGET, other, manager="other")
        assert (sorted(both["spec"]["tags"]), both["spec"]["notes"]) == (["a", "b", "c"], ["z"])
        left = await place.cluster.apply(WIDGET, widget(place, "w"))
        assert (sorted(left["spec"]["tags"]), left["spec"]["notes"]) == (["b", "c"], ["z"])

    async def test_a_finalizer_that_is_no_longer_applied_goes_away(self, place: Place) -> None:
        wanted = widget(place, "w")
        wanted["metadata"]["finalizers"] = ["lambda.knative.io/one"]
        made = await place.cluster.apply(WIDGET, wanted)
        assert made["metadata"]["finalizers"] == ["lambda.knative.io/one"]
        assert "finalizers" not in (await place.cluster.apply(WIDGET, widget(place, "w")))["metadata"]

    async def test_containers_of_a_pod_template_merge_by_name(self, place: Place) -> None:
        await place.cluster.apply(JOB, job(place, "j"))
        labelled = job(place, "j")
        labelled["metadata"]["labels"] = {"a": "b"}
        changed = await place.cluster.apply(JOB, labelled)
        assert changed["metadata"]["labels"]["a"] == "b"
        assert [one["image"] for one in changed["spec"]["template"]["spec"]["containers"]] == ["example.org/a:1"]
        with pytest.raises(Invalid, match="immutable"):
            await place.cluster.apply(JOB, job(place, "j", image="example.org/b:1"))

    async def test_what_was_created_by_post_is_not_ours_to_drop(self, place: Place) -> None:
        await place.cluster.create(WIDGET, widget(place, "w", color="red"))
        await place.cluster.apply(WIDGET, widget(place, "w", color="red"))
        assert (await place.cluster.apply(WIDGET, widget(place, "w")))["spec"]["color"] == "red"

    async def test_status_is_not_applied(self, place: Place) -> None:
        made = await place.cluster.apply(WIDGET, widget(place, "w"))
        await place.cluster.patch(WIDGET, key_of(made), {"status": {"phase": "Fine"}}, subresource="status")
        again = await place.cluster.apply(WIDGET, {**widget(place, "w", size=2), "status": {"phase": "Bad"}})
        assert (again["spec"]["size"], again["status"]) == (2, {"phase": "Fine"})

    async def test_an_apply_is_strict_and_validated(self, place: Place) -> None:
        with pytest.raises(Invalid, match="colour"):
            await place.cluster.apply(WIDGET, widget(place, "w", colour="red"))
        with pytest.raises(Invalid, match=r"spec\.size"):
            await place.cluster.apply(WIDGET, widget(place, "w", size=-1))
        with pytest.raises(NotFound):
            await place.cluster.get(WIDGET, Key(place.namespace, "w"))

    async def test_an_apply_may_be_meant_for_one_object_or_version(self, place: Place) -> None:
        made = await place.cluster.apply(WIDGET, widget(place, "w"))
        await place.cluster.patch(WIDGET, key_of(made), {"spec": {"size": 4}})
        for guard in ({"uid": "somebody-else"}, {"resourceVersion": version(made)}):
            wanted = widget(place, "w", color="red")
            wanted["metadata"] |= guard
            with pytest.raises(Conflict):
                await place.cluster.apply(WIDGET, wanted)


class TestList:
    async def test_only_the_asked_namespace_is_listed(self, place: Place) -> None:
        made = [await place.cluster.create(WIDGET, widget(place, name)) for name in ("b", "a")]
        page = await place.cluster.list(WIDGET, Selection(place.namespace))
        assert page.items == [made[1], made[0]]
        assert page.continue_token == ""
        assert int(page.resource_version) >= int(version(made[1]))
        everywhere = await place.cluster.list(WIDGET, limit=500)
        assert {key_of(one) for one in everywhere.items} >= {key_of(one) for one in made}
        assert (await place.cluster.list(WIDGET, Selection("default"))).items == []

    async def test_items_of_built_in_kinds_say_what_they_are(self, place: Place) -> None:
        made = await place.cluster.create(CONFIG_MAP, config_map(place, "c", a="b"))
        (item,) = (await place.cluster.list(CONFIG_MAP, Selection(place.namespace, fields="metadata.name=c"))).items
        assert item == made
        assert (item["apiVersion"], item["kind"]) == ("v1", "ConfigMap")

    async def test_pages_together_are_the_list_as_it_was(self, place: Place) -> None:
        for number in range(7):
            await place.cluster.create(WIDGET, widget(place, f"w{number}"))
        where = Selection(place.namespace)
        page = await place.cluster.list(WIDGET, where, limit=3)
        first_version = page.resource_version
        names = [item["metadata"]["name"] for item in page.items]
        await place.cluster.create(WIDGET, widget(place, "w9"))
        await place.cluster.delete(WIDGET, Key(place.namespace, "w5"))
        sizes = [len(page.items)]
        while page.continue_token:
            page = await place.cluster.list(WIDGET, where, limit=3, continue_token=page.continue_token)
            assert page.resource_version == first_version
            names += [item["metadata"]["name"] for item in page.items]
            sizes.append(len(page.items))
        assert sizes == [3, 3, 1]
        assert names == [f"w{number}" for number in range(7)]

    @pytest.mark.parametrize(
        ("labels", "found"),
        [
            ("", "abcd"),
            ("tier=web", "ab"),
            ("tier==web", "ab"),
            ("tier!=web", "cd"),
            ("tier=web,env=prod", "a"),
            ("tier in (web,db)", "abc"),
            ("tier notin (web, db)", "d"),
            ("tier in (web,db),env=prod", "ac"),
            ("env", "abc"),
            ("!env", "d"),
            ("tier=", ""),
        ],
    )
    async def test_labels_select(self, place: Place, labels: str, found: str) -> None:
        rows: dict[str, dict[str, str]] = {
            "a": {"tier": "web", "env": "prod"},
            "b": {"tier": "web", "env": "test"},
            "c": {"tier": "db", "env": "prod"},
            "d": {},
        }
        for name, row in rows.items():
            await place.cluster.create(WIDGET, widget(place, name, labels=row))
        page = await place.cluster.list(WIDGET, Selection(place.namespace, labels=labels))
        assert "".join(item["metadata"]["name"] for item in page.items) == found

    async def test_names_and_phases_select(self, place: Place) -> None:
        for name in ("a", "b"):
            await place.cluster.create(WIDGET, widget(place, name))
        for fields, found in (("metadata.name=a", ["a"]), ("metadata.name!=a", ["b"]), ("metadata.name=x", [])):
            page = await place.cluster.list(WIDGET, Selection(place.namespace, fields=fields))
            assert [item["metadata"]["name"] for item in page.items] == found
        pods = await place.cluster.list(POD, Selection(place.namespace, fields="status.phase=Running"))
        assert pods.items == []

    @pytest.mark.parametrize("selection", [{"labels": "a in b"}, {"labels": "=x"}, {"fields": "spec.size=1"}])
    async def test_a_selector_that_nobody_understands_is_refused(self, place: Place, selection: dict[str, str]) -> None:
        with pytest.raises(Invalid):
            await place.cluster.list(WIDGET, Selection(place.namespace, **selection))


class TestWatch:
    async def test_a_watch_tells_what_happened_after_the_list(self, place: Place) -> None:
        await place.cluster.create(WIDGET, widget(place, "before"))
        where = Selection(place.namespace)
        page = await place.cluster.list(WIDGET, where)
        made = await place.cluster.create(WIDGET, widget(place, "a"))
        changed = await place.cluster.patch(WIDGET, key_of(made), {"spec": {"size": 5}})
        await place.cluster.delete(WIDGET, key_of(made))
        stream = place.cluster.watch(WIDGET, where, resource_version=page.resource_version)
        events = await collected(stream, until=3)
        assert told(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        assert [event.object for event in events[:2]] == [made, changed]
        assert events[2].object["spec"]["size"] == 5
        assert int(version(events[2].object)) > int(version(changed))

    async def test_a_running_watch_hears_at_once(self, place: Place) -> None:
        where = Selection(place.namespace)
        page = await place.cluster.list(WIDGET, where)
        stream = place.cluster.watch(WIDGET, where, resource_version=page.resource_version)
        listening = asyncio.create_task(collected(stream, until=2))
        await asyncio.sleep(0.2)
        made = await place.cluster.create(WIDGET, widget(place, "a"))
        await place.cluster.patch(WIDGET, key_of(made), {"status": {"phase": "x"}}, subresource="status")
        assert told(await asyncio.wait_for(listening, 5)) == [("ADDED", "a"), ("MODIFIED", "a")]

    async def test_a_watch_resumes_where_the_last_one_ended(self, place: Place) -> None:
        made = [await place.cluster.create(WIDGET, widget(place, name)) for name in "abc"]
        stream = place.cluster.watch(WIDGET, Selection(place.namespace), resource_version=version(made[0]))
        assert told(await collected(stream, until=2)) == [("ADDED", "b"), ("ADDED", "c")]

    async def test_a_watch_hears_only_what_it_selects(self, place: Place) -> None:
        page = await place.cluster.list(WIDGET, Selection(place.namespace))
        made = await place.cluster.create(WIDGET, widget(place, "a", labels={"x": "1"}))
        await place.cluster.create(WIDGET, widget(place, "b"))
        await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"labels": {"x": "2"}}})
        await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"labels": {"y": "2"}}})
        await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"labels": {"x": "1"}}})
        stream = place.cluster.watch(
            WIDGET, Selection(place.namespace, labels="x=1"), resource_version=page.resource_version
        )
        events = await collected(stream, until=3)
        assert told(events) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]

    async def test_a_watch_ends_by_itself_and_bookmarks_tell_how_far_it_came(self, place: Place) -> None:
        """A real server promises none: it sends them when it can."""
        made = await place.cluster.create(WIDGET, widget(place, "a"))
        stream = place.cluster.watch(WIDGET, Selection(place.namespace), resource_version=version(made), seconds=4)
        watching = asyncio.create_task(collected(stream, bookmarks=True))
        later = await place.cluster.create(WIDGET, widget(place, "b"))
        first, *bookmarks = await watching
        assert (first.kind, version(first.object)) == (EventKind.ADDED, version(later))
        assert {event.kind for event in bookmarks} <= {EventKind.BOOKMARK}
        assert all(int(version(event.object)) >= int(version(later)) for event in bookmarks)

    async def test_deleting_with_a_finalizer_is_a_change_first(self, place: Place) -> None:
        wanted = widget(place, "a")
        wanted["metadata"]["finalizers"] = ["lambda.knative.io/one"]
        made = await place.cluster.create(WIDGET, wanted)
        await place.cluster.delete(WIDGET, key_of(made))
        await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"finalizers": None}})
        stream = place.cluster.watch(WIDGET, Selection(place.namespace), resource_version=version(made))
        kinds = [event.kind.value for event in await collected(stream, until=2)]
        assert kinds == ["MODIFIED", "DELETED"]

    async def test_a_version_that_is_forgotten_is_gone(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place, "a"))
        for size in range(2, 6):
            await place.cluster.patch(WIDGET, key_of(made), {"spec": {"size": size}})
        await place.forget_history()
        stream = place.cluster.watch(WIDGET, Selection(place.namespace), resource_version=version(made))
        with pytest.raises(Gone):
            await collected(stream, until=1)
        page = await place.cluster.list(WIDGET, Selection(place.namespace))
        assert [item["spec"]["size"] for item in page.items] == [5]

    async def test_a_list_half_read_is_gone_with_its_history(self, place: Place) -> None:
        for name in "abc":
            await place.cluster.create(WIDGET, widget(place, name))
        page = await place.cluster.list(WIDGET, Selection(place.namespace), limit=2)
        await place.cluster.delete(WIDGET, Key(place.namespace, "a"))
        await place.forget_history()
        with pytest.raises(Gone):
            await place.cluster.list(WIDGET, Selection(place.namespace), limit=2, continue_token=page.continue_token)


class TestDelete:
    async def test_a_deleted_object_is_gone(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        await place.cluster.delete(WIDGET, key_of(made))
        assert not await exists(place, WIDGET, key_of(made))
        with pytest.raises(NotFound):
            await place.cluster.delete(WIDGET, key_of(made))

    async def test_a_deletion_may_be_meant_for_one_object(self, place: Place) -> None:
        made = await place.cluster.create(WIDGET, widget(place))
        with pytest.raises(Conflict):
            await place.cluster.delete(WIDGET, key_of(made), uid="somebody-else")
        await place.cluster.delete(WIDGET, key_of(made), uid=made["metadata"]["uid"])
        assert not await exists(place, WIDGET, key_of(made))

    async def test_a_finalizer_holds_the_object_until_it_is_removed(self, place: Place) -> None:
        wanted = widget(place)
        wanted["metadata"]["finalizers"] = ["lambda.knative.io/one", "lambda.knative.io/two"]
        made = await place.cluster.create(WIDGET, wanted)
        await place.cluster.delete(WIDGET, key_of(made))
        await place.cluster.delete(WIDGET, key_of(made))
        held = await place.cluster.get(WIDGET, key_of(made))
        assert held["metadata"]["deletionTimestamp"].endswith("Z")
        assert held["metadata"]["generation"] == 2
        half = await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"finalizers": ["lambda.knative.io/two"]}})
        assert half["metadata"]["finalizers"] == ["lambda.knative.io/two"]
        await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"finalizers": None}})
        assert not await exists(place, WIDGET, key_of(made))

    async def test_no_finalizer_is_added_to_what_is_being_deleted(self, place: Place) -> None:
        wanted = widget(place)
        wanted["metadata"]["finalizers"] = ["lambda.knative.io/one"]
        made = await place.cluster.create(WIDGET, wanted)
        await place.cluster.delete(WIDGET, key_of(made))
        finalizers = ["lambda.knative.io/one", "lambda.knative.io/two"]
        with pytest.raises(Invalid):
            await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"finalizers": finalizers}})
        await place.cluster.patch(WIDGET, key_of(made), {"metadata": {"finalizers": None}})

    async def test_children_go_with_their_only_owner(self, place: Place) -> None:
        owner = await place.cluster.create(CONFIG_MAP, config_map(place))
        child = await place.cluster.create(CONFIG_MAP, config_map(place, owners=[owner]))
        grandchild = await place.cluster.create(CONFIG_MAP, config_map(place, owners=[child]))
        stranger = await place.cluster.create(CONFIG_MAP, config_map(place))
        await place.cluster.delete(CONFIG_MAP, key_of(owner))
        await gone(place, CONFIG_MAP, child)
        await gone(place, CONFIG_MAP, grandchild)
        assert await exists(place, CONFIG_MAP, key_of(stranger))

    async def test_a_child_of_two_owners_stays_with_the_other(self, place: Place) -> None:
        owners = [await place.cluster.create(CONFIG_MAP, config_map(place)) for _ in range(2)]
        child = await place.cluster.create(CONFIG_MAP, config_map(place, owners=owners))
        sibling = await place.cluster.create(CONFIG_MAP, config_map(place, owners=owners[:1]))
        await place.cluster.delete(CONFIG_MAP, key_of(owners[0]))
        await gone(place, CONFIG_MAP, sibling)
        assert await exists(place, CONFIG_MAP, key_of(child))
        await place.cluster.delete(CONFIG_MAP, key_of(owners[1]))
        await gone(place, CONFIG_MAP, child)

    async def test_a_child_that_comes_after_its_owner_went_goes_too(self, place: Place) -> None:
        owner = await place.cluster.create(CONFIG_MAP, config_map(place))
        await place.cluster.delete(CONFIG_MAP, key_of(owner))
        child = await place.cluster.create(CONFIG_MAP, config_map(place, owners=[owner]))
        await gone(place, CONFIG_MAP, child)

    async def test_in_the_foreground_the_owner_goes_last(self, place: Place) -> None:
        owner = await place.cluster.create(CONFIG_MAP, config_map(place))
        wanted = config_map(place, owners=[owner])
        wanted["metadata"]["finalizers"] = ["lambda.knative.io/one"]
        child = await place.cluster.create(CONFIG_MAP, wanted)
        await place.cluster.delete(CONFIG_MAP, key_of(owner), propagation="Foreground")

        async def child_is_going() -> bool:
            return "deletionTimestamp" in (await place.cluster.get(CONFIG_MAP, key_of(child)))["metadata"]

        await place.eventually(child_is_going, "the child is being deleted")
        held = await place.cluster.get(CONFIG_MAP, key_of(owner))
        assert held["metadata"]["finalizers"] == ["foregroundDeletion"]
        await place.cluster.patch(CONFIG_MAP, key_of(child), {"metadata": {"finalizers": None}})
        await gone(place, CONFIG_MAP, owner)

    async def test_orphans_stay_without_their_owner(self, place: Place) -> None:
        owner = await place.cluster.create(CONFIG_MAP, config_map(place))
        child = await place.cluster.create(CONFIG_MAP, config_map(place, owners=[owner]))
        await place.cluster.delete(CONFIG_MAP, key_of(owner), propagation="Orphan")
        await gone(place, CONFIG_MAP, owner)
        left = await place.cluster.get(CONFIG_MAP, key_of(child))
        assert not left["metadata"].get("ownerReferences")

    async def test_finalizers_of_a_child_hold_it_after_its_owner_went(self, place: Place) -> None:
        owner = await place.cluster.create(CONFIG_MAP, config_map(place))
        wanted = config_map(place, owners=[owner])
        wanted["metadata"]["finalizers"] = ["lambda.knative.io/one"]
        child = await place.cluster.create(CONFIG_MAP, wanted)
        await place.cluster.delete(CONFIG_MAP, key_of(owner))
        await gone(place, CONFIG_MAP, owner)

        async def going() -> bool:
            return "deletionTimestamp" in (await place.cluster.get(CONFIG_MAP, key_of(child)))["metadata"]

        await place.eventually(going, "the child is being deleted")
        await place.cluster.patch(CONFIG_MAP, key_of(child), {"metadata": {"finalizers": None}})
        await gone(place, CONFIG_MAP, child)


class TestClose:
    async def test_running_watches_end_and_further_calls_are_refused(self, place: Place) -> None:
        page = await place.cluster.list(WIDGET, Selection(place.namespace))
        stream = place.cluster.watch(WIDGET, Selection(place.namespace), resource_version=page.resource_version)
        listening = asyncio.create_task(collected(stream))
        await asyncio.sleep(0.2)
        await place.cluster.close()
        assert await asyncio.wait_for(listening, 5) == []
        with pytest.raises(Unavailable):
            await place.cluster.get(WIDGET, Key(place.namespace, "a"))
