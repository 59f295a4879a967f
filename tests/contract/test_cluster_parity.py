"""The same random writes to memory and to a real API server: after each of them both must hold the same object."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import yaml

from knative_lambda.api import crd, function, repository
from knative_lambda.api.kinds import CUSTOM_RESOURCE_DEFINITION, FUNCTION_REPOSITORY, LAMBDA_FUNCTION
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Cluster, ClusterError, Object
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import SystemClock
from tests.contract.conftest import WIDGET, WIDGETS, KubePlace

pytestmark = pytest.mark.contract

Write = Callable[[Cluster], Awaitable[Object | None]]
NAME = "subject"
MANAGERS = ("knative-lambda", "other", "third")


@pytest.fixture
async def real(kube_place: KubePlace) -> KubePlace:
    """The API server's side, with our own kinds as they are generated now."""
    cluster = kube_place.cluster
    for definition in crd.definitions():
        await cluster.apply(CUSTOM_RESOURCE_DEFINITION, definition)
    for kind in (LAMBDA_FUNCTION, FUNCTION_REPOSITORY):
        await kube_place.eventually(partial(is_listed, cluster, kind), f"{kind} is served")
    return kube_place


async def is_listed(cluster: Cluster, kind: Kind) -> bool:
    """Not `served`: discovery answers some time before the resource does."""
    try:
        await cluster.list(kind, limit=1)
    except ClusterError:
        return False
    return True


@pytest.fixture
def twin() -> MemoryCluster:
    definitions = [yaml.safe_load(WIDGETS.read_text()), *crd.definitions()]
    validators = {LAMBDA_FUNCTION: function.parse, FUNCTION_REPOSITORY: repository.parse}
    return MemoryCluster(clock=SystemClock(), definitions=definitions, validators=validators)


def some_spec(dice: random.Random) -> Object:
    """Any part of what a Widget may say, often little, sometimes nonsense.

    Never nothing at all, and no empty sets: who applies nothing owns nothing, and a real server then invents an owner
    `before-first-apply`, which the twin does not.
    """
    choices: dict[str, Callable[[], Any]] = {
        "size": lambda: dice.choice([0, 1, 5, 101, None]),
        "color": lambda: dice.choice(["red", "green", "pink"]),
        "weight": lambda: dice.choice([1, "1Gi"]),
        "options": lambda: dice.choice([{}, {"mode": "fast"}, {"level": 3}, {"mode": "fast", "level": 1}, None]),
        "extra": lambda: {key: dice.choice("xy") for key in dice.sample("abc", dice.randint(0, 3))},
        "free": lambda: dice.choice([{}, {"a": 1}, {"a": {"b": [1, 2]}}, {"a": {"c": {}}, "d": "x"}]),
        "notes": lambda: dice.sample("abc", dice.randint(0, 3)),
        "tags": lambda: dice.sample("abc", dice.randint(1, 3)),
        "parts": lambda: [
            {"name": name, **dice.choice([{}, {"count": 2}, {"hint": "h"}, {"count": 3, "hint": "i"}])}
            for name in dice.sample("pqr", dice.randint(1, 3))
        ],
    }
    return {name: choices[name]() for name in dice.sample(sorted(choices), dice.randint(1, 4))}


def some_metadata(dice: random.Random, namespace: str) -> Object:
    metadata: Object = {"name": NAME, "namespace": namespace}
    if dice.random() < 0.4:
        metadata["labels"] = {key: dice.choice("xy") for key in dice.sample("abc", dice.randint(0, 3))}
    if dice.random() < 0.2:
        metadata["finalizers"] = [f"example.org/{name}" for name in dice.sample("ab", dice.randint(0, 2))]
    return metadata


def some_write(dice: random.Random, namespace: str) -> tuple[str, Write]:
    """A description for the failure's message, and the call."""
    key = Key(namespace, NAME)
    obj: Object = {"apiVersion": WIDGET.api_version, "kind": "Widget"}
    obj |= {"metadata": some_metadata(dice, namespace), "spec": some_spec(dice)}
    manager, force = dice.choice(MANAGERS), dice.random() < 0.7
    patch: Object = {"spec": some_spec(dice)}
    if dice.random() < 0.3:
        patch["metadata"] = {"labels": dice.choice([None, {"a": None}, {"b": "z"}])}
    if dice.random() < 0.3:
        patch["spec"] |= dict.fromkeys(dice.sample(["color", "extra", "tags", "parts", "options"], 2))
    status: Object = {"status": dice.choice([{"phase": "x"}, {"phase": None}, {"observedGeneration": 3}])}
    name = dice.choices(["apply", "patch", "status", "unhold", "delete", "create"], [60, 20, 8, 5, 3, 4])[0]
    writes: dict[str, Write] = {
        "apply": lambda cluster: cluster.apply(WIDGET, obj, manager=manager, force=force),
        "patch": lambda cluster: cluster.patch(WIDGET, key, patch),
        "status": lambda cluster: cluster.patch(WIDGET, key, status, subresource="status"),
        "unhold": lambda cluster: cluster.patch(WIDGET, key, {"metadata": {"finalizers": None}}),
        "delete": lambda cluster: cluster.delete(WIDGET, key),
        "create": lambda cluster: cluster.create(WIDGET, obj),
    }
    said: Any = {"apply": (manager, force, obj), "patch": patch, "status": status, "create": obj}.get(name, "")
    return f"{name} {said}", writes[name]


async def outcome(cluster: Cluster, write: Write) -> tuple[Object | str | None, str]:
    """What a write returned, without what must differ; or the type of its error, and its words."""
    try:
        made = await write(cluster)
    except ClusterError as error:
        return type(error).__name__, error.message
    return comparable(made) if made else None, ""


def comparable(obj: Object) -> Object:
    metadata = {
        name: value
        for name, value in obj["metadata"].items()
        if value and name not in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
    }
    if "deletionTimestamp" in obj["metadata"]:
        metadata["going"] = True
    return {**obj, "metadata": metadata}


@pytest.mark.parametrize("seed", range(8))
async def test_random_writes_leave_both_clusters_alike(real: KubePlace, twin: MemoryCluster, seed: int) -> None:
    dice = random.Random(seed)
    story: list[str] = []
    for _ in range(60):
        said, write = some_write(dice, real.namespace)
        (wanted, why), (found, _) = await outcome(real.cluster, write), await outcome(twin, write)
        story.append(f"{said}\n    -> {why or wanted}")
        assert found == wanted, "\n".join(story[-12:])


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (LAMBDA_FUNCTION, {"runtime": {"language": "python", "version": "3.11"}}),
        (LAMBDA_FUNCTION, {"runtime": {"language": "cobol", "version": "1"}}),
        (LAMBDA_FUNCTION, {"runtime": {"language": "python", "version": "3.11"}, "surprise": 1}),
        (LAMBDA_FUNCTION, {}),
        (FUNCTION_REPOSITORY, {"url": "https://git.example.org/a.git"}),
        (FUNCTION_REPOSITORY, {"url": "ftp://git.example.org/a.git"}),
        (FUNCTION_REPOSITORY, {"url": "https://git.example.org/a.git", "interval": "soon"}),
    ],
)
async def test_our_kinds_are_defaulted_and_validated_alike(
    real: KubePlace, twin: MemoryCluster, kind: Kind, spec: Object
) -> None:
    if kind is LAMBDA_FUNCTION:
        spec = {**spec, "source": {"type": "inline", "inline": {"code": "def handler(event): return event"}}}
    obj = {"metadata": {"name": "a", "namespace": real.namespace}, "spec": spec}

    async def create(cluster: Cluster) -> Object:
        return await cluster.create(kind, obj)

    (found, _), (wanted, why) = await outcome(twin, create), await outcome(real.cluster, create)
    assert found == wanted, why
