"""Every field and default that users were promised is there, in the types and in the CRD."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knative_lambda.api import crd, function, repository
from knative_lambda.api.function import LambdaFunction
from knative_lambda.api.repository import FunctionRepository
from tests.unit.api import documents

PROMISED: dict[str, Any] = {
    "source.type": "minio",
    "source.minio.endpoint": "minio.minio.svc.cluster.local:9000",
    "source.minio.bucket": None,
    "source.minio.key": None,
    "source.minio.accessKey": None,
    "source.minio.secretKey": None,
    "source.s3.bucket": None,
    "source.s3.key": None,
    "source.s3.region": "us-east-1",
    "source.gcs.bucket": None,
    "source.gcs.key": None,
    "source.gcs.project": None,
    "source.git.url": None,
    "source.git.ref": None,
    "source.git.path": None,
    "source.inline.code": None,
    "source.inline.dependencies": None,
    "runtime.language": None,
    "runtime.version": None,
    "runtime.handler": None,
    "scaling.minReplicas": 0,
    "scaling.maxReplicas": 50,
    "scaling.targetConcurrency": 10,
    "scaling.scaleToZeroGracePeriod": "30s",
    "resources.requests.memory": "32Mi",
    "resources.requests.cpu": "25m",
    "resources.limits.memory": "64Mi",
    "resources.limits.cpu": "50m",
    "env[].name": None,
    "env[].value": None,
    "env[].valueFrom": None,
    "triggers[].broker": None,
    "triggers[].filter.type": None,
    "triggers[].filter.source": None,
    "build.timeout": "30m",
    "build.registry": None,
    "build.imagePullSecret": None,
}
"""Field of the spec -> default; None where there is none. The handler's default depends on the language."""

STATUS = (
    "phase",
    "buildStatus.jobName",
    "buildStatus.imageURI",
    "buildStatus.startedAt",
    "buildStatus.completedAt",
    "buildStatus.error",
    "serviceStatus.serviceName",
    "serviceStatus.url",
    "serviceStatus.ready",
    "serviceStatus.replicas",
    "conditions[].type",
    "conditions[].status",
    "conditions[].reason",
    "conditions[].message",
    "conditions[].lastTransitionTime",
)

CORRECTED = {
    "source.minio.secretRef.name": None,
    "source.s3.secretRef.name": None,
    "source.gcs.secretRef.name": None,
    "source.git.secretRef.name": None,
    "source.git.commit": None,
    "source.image.uri": None,
    "env[].valueFrom.secretKeyRef.name": None,
    "env[].valueFrom.secretKeyRef.key": None,
    "env[].valueFrom.configMapKeyRef.name": None,
    "env[].valueFrom.configMapKeyRef.key": None,
    "build.pushSecret": None,
    "build.watchPaths": None,
}
"""What an API server or a careful operator needs beyond that."""


def _schema_at(root: dict[str, Any], path: str) -> dict[str, Any]:
    node = root
    for step in path.split("."):
        name, is_list = step.removesuffix("[]"), step.endswith("[]")
        node = node["properties"][name]
        node = node["items"] if is_list else node
    return node


@pytest.mark.parametrize(("path", "default"), [*PROMISED.items(), *CORRECTED.items()])
def test_crd_has_the_promised_field_and_default(path: str, default: Any) -> None:
    spec = crd.open_api_schema(LambdaFunction)["properties"]["spec"]
    assert _schema_at(spec, path).get("default") == default


@pytest.mark.parametrize("path", STATUS)
def test_crd_has_the_promised_status_field(path: str) -> None:
    status = crd.open_api_schema(LambdaFunction)["properties"]["status"]
    assert "type" in _schema_at(status, path)


def test_status_has_no_defaults_that_would_lie_about_what_was_seen() -> None:
    for model in (LambdaFunction, FunctionRepository):
        status = crd.open_api_schema(model)["properties"]["status"]
        assert '"default"' not in json.dumps(status)


def test_a_function_without_optional_parents_gets_every_nested_default() -> None:
    fn = function.parse(documents.function())
    assert (fn.spec.scaling.min_replicas, fn.spec.scaling.max_replicas) == (0, 50)
    assert fn.spec.scaling.target_concurrency == 10
    assert fn.spec.scaling.scale_to_zero_grace_period == "30s"
    assert (fn.spec.resources.requests.memory, fn.spec.resources.requests.cpu) == ("32Mi", "25m")
    assert (fn.spec.resources.limits.memory, fn.spec.resources.limits.cpu) == ("64Mi", "50m")
    assert fn.spec.build.timeout == "30m"


@pytest.mark.parametrize("parent", ["scaling", "resources", "build"])
def test_crd_gives_parents_whole_defaults_so_that_nested_ones_apply(parent: str) -> None:
    properties = crd.open_api_schema(LambdaFunction)["properties"]["spec"]["properties"]
    default = properties[parent]["default"]
    for name, child in properties[parent]["properties"].items():
        assert default.get(name) == child.get("default")


def test_a_source_without_type_is_an_object_in_minio() -> None:
    fn = function.parse(documents.function(source={"minio": {"bucket": "code", "key": "hello.zip"}}))
    assert fn.spec.source.minio is not None
    assert fn.spec.source.minio.endpoint == "minio.minio.svc.cluster.local:9000"


@pytest.mark.parametrize("member", documents.SOURCES)
def test_every_kind_of_source_is_accepted(member: str) -> None:
    fn = function.parse(documents.function(source={"type": member, member: documents.SOURCES[member]}))
    assert getattr(fn.spec.source, member) is not None


def test_a_repository_is_polled_every_minute_and_pruned_unless_told_otherwise() -> None:
    spec = repository.parse(documents.repository()).spec
    assert (spec.interval, spec.prune, spec.suspend, spec.path) == ("1m", True, False, "")


def test_a_repository_writes_into_its_own_namespace_unless_told_otherwise() -> None:
    assert repository.parse(documents.repository()).target_namespace == "shop"
    assert repository.parse(documents.repository(targetNamespace="elsewhere")).target_namespace == "elsewhere"
