"""What is read from a Knative Service, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.local.serving.revisions import Reference, Variable, parse, project
from knative_lambda.local.serving.scaling import Scale
from knative_lambda.resources import knative_service
from knative_lambda.resources.knative_service import ServingSettings
from tests import gen

pytestmark = pytest.mark.unit


def test_what_the_controller_writes_is_understood() -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 5, "targetConcurrency": 7, "scaleToZeroGracePeriod": "1m"}
    env = [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    resources = {"limits": {"memory": "100Mi", "cpu": "1500m"}}
    fn = gen.lambda_function("hello", gen.with_spec(scaling=scaling, env=env, resources=resources))
    template = parse(knative_service.manifest(fn, image="r/i@sha256:1", settings=ServingSettings()))
    assert template.image == "r/i@sha256:1"
    assert template.variables == (Variable("A", "1"), Variable("B", secret=Reference("s", "k", optional=False)))
    assert template.scale == Scale(least=1, most=5, target=7)
    assert (template.hard_limit, template.grace, template.timeout) == (0, 60.0, 300.0)
    assert (template.memory, template.scratch, template.processors) == (100 << 20, 64 << 20, 2)


def test_only_another_template_is_another_revision() -> None:
    one, two = service(), service()
    two["metadata"]["labels"] = {"a": "b"}
    two["spec"]["traffic"] = [{"percent": 100}]
    assert parse(one).identity == parse(two).identity
    two["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A"}]
    assert parse(one).identity != parse(two).identity


def test_a_hard_limit_is_the_target_when_none_is_given() -> None:
    assert parse(service(containerConcurrency=3)).scale.target == 3
    assert parse(service()).scale.target == 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"containers": []}, "exactly one container"),
        ({"containers": [{}, {}]}, "exactly one container"),
        ({"containers": "x"}, "exactly one container"),
        ({"containers": [{"image": ""}]}, "image: missing"),
        ({"timeoutSeconds": "soon"}, "timeoutSeconds: 'soon' is not a number"),
        ({"containerConcurrency": -1}, "containerConcurrency: -1 is negative"),
        ({"containers": [{"image": "i", "env": [{"name": "PORT", "value": "1"}]}]}, "PORT: is set by Knative"),
        ({"containers": [{"image": "i", "env": [{"name": "A=B"}]}]}, "no name of a variable"),
        ({"containers": [{"image": "i", "env": [{"name": "A", "value": 1}]}]}, "env A: its value is not text"),
        ({"containers": [{"image": "i", "env": "A"}]}, "env: not a list"),
        ({"containers": [{"image": "i", "resources": {"limits": {"memory": "lots"}}}]}, "is not a quantity"),
        ({"containers": [{"image": "i", "resources": {"limits": {"memory": "-1"}}}]}, "no amount of bytes"),
        ({"containers": [{"image": "i", "resources": {"limits": {"cpu": "-1"}}}]}, "no amount of processors"),
    ],
)
def test_what_cannot_be_run_is_a_problem_with_its_place(change: dict[str, Any], words: str) -> None:
    wanted = project(service(**change))
    assert wanted is not None
    assert wanted.template is None
    assert words in wanted.problem


def test_a_service_that_is_being_deleted_is_gone() -> None:
    leaving = service()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert project(leaving) is None


def service(**pod: Any) -> dict[str, Any]:
    spec = {"containers": [{"image": "i@sha256:0"}], **pod}
    metadata = {"name": "fn", "namespace": "ns", "uid": "u", "generation": 3}
    return {"metadata": metadata, "spec": {"template": {"spec": spec}}}


def test_identity_and_status_are_kept() -> None:
    obj = service() | {"status": {"url": "u"}}
    wanted = project(obj)
    assert wanted is not None
    assert (wanted.key, wanted.uid, wanted.generation, wanted.status) == (Key("ns", "fn"), "u", 3, {"url": "u"})
