"""Names of children and images."""

from __future__ import annotations

import re

import pytest

from knative_lambda.resources import images, names
from knative_lambda.resources.images import Registries
from tests import gen

REGISTRIES = Registries(push="kind-registry:5000", pull="localhost:5001")
LONGEST = "a" * 52


def test_longest_function_name_leaves_room_for_every_childs() -> None:
    fn = gen.lambda_function(LONGEST, gen.with_trigger("default", type="x"))
    for name in (names.kaniko_job(fn, "d" * 64), names.trigger(fn, fn.spec.triggers[0]), names.service(fn)):
        assert len(name) <= 63
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


def test_job_is_named_by_build_and_life_of_its_function() -> None:
    fn = gen.lambda_function()
    reborn = fn.model_copy(update={"metadata": fn.metadata.model_copy(update={"uid": "another"})})
    assert names.kaniko_job(fn, "a") == names.kaniko_job(fn, "a")
    assert len({names.kaniko_job(fn, "a"), names.kaniko_job(fn, "b"), names.kaniko_job(reborn, "a")}) == 3


def test_trigger_is_named_by_broker_and_filter() -> None:
    def name(broker: str, **attributes: str) -> str:
        fn = gen.lambda_function("hello", gen.with_trigger(broker, **attributes))
        return names.trigger(fn, fn.spec.triggers[0])

    assert name("default", type="x", source="y") == name("default", source="y", type="x")
    assert len({name("default", type="x"), name("default", type="y"), name("other", type="x"), name("default")}) == 4


def test_image_goes_to_the_push_host_and_runs_from_the_pull_host() -> None:
    found = images.repositories(gen.lambda_function(), REGISTRIES)
    assert found.destination("t") == "kind-registry:5000/tenant-1/hello:t"
    assert found.pinned(gen.IMAGE_DIGEST) == f"localhost:5001/tenant-1/hello@{gen.IMAGE_DIGEST}"


@pytest.mark.parametrize("host", ["localhost:5001", "kind-registry:5000"])
def test_own_repository_in_the_default_registry_is_reached_by_both_hosts(host: str) -> None:
    fn = gen.lambda_function("hello", gen.with_spec(build={"registry": f"{host}/me/x"}))
    found = images.repositories(fn, REGISTRIES)
    assert (found.push, found.pull) == ("kind-registry:5000/me/x", "localhost:5001/me/x")


def test_own_repository_elsewhere_is_taken_as_it_is() -> None:
    fn = gen.lambda_function("hello", gen.with_spec(build={"registry": "ghcr.io/me/x"}))
    found = images.repositories(fn, REGISTRIES)
    assert found.push == found.pull == "ghcr.io/me/x"


@pytest.mark.parametrize(
    "text",
    ["ghcr.io/me/x", "localhost:5001/a/b", "registry.a.svc.cluster.local:5000/x", "x", "a/b_c/d__e/f-g.h"],
)
def test_repositories_that_registries_take(text: str) -> None:
    assert images.is_repository(text)


@pytest.mark.parametrize("text", ["", "ghcr.io/me/x:1", "ghcr.io/Me/x", "a//b", "/a", "a/", "a/-b", "a" * 256])
def test_repositories_that_registries_refuse(text: str) -> None:
    assert not images.is_repository(text)


@pytest.mark.parametrize("text", ["x", "x:1", f"ghcr.io/me/x@{gen.IMAGE_DIGEST}", f"x:1@{gen.IMAGE_DIGEST}"])
def test_references_that_nodes_pull(text: str) -> None:
    assert images.is_reference(text)


@pytest.mark.parametrize("text", ["x:", "x@sha256:12", "x:a b", "-x", "x:" + "a" * 129])
def test_references_that_nodes_refuse(text: str) -> None:
    assert not images.is_reference(text)
