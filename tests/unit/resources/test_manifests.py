"""The manifests that a function becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from knative_lambda.api import meta
from knative_lambda.resources import child, kaniko_job, knative_service, observed, trigger
from knative_lambda.resources.child import Ownership
from knative_lambda.resources.trigger import DeadLetterSink
from tests import gen


def _pod(*parts: gen.Part) -> dict[str, Any]:
    pod: dict[str, Any] = gen.job_manifest(gen.lambda_function("hello", *parts))["spec"]["template"]["spec"]
    return pod


def _mounts(container: dict[str, Any]) -> set[str]:
    return {mount["name"] for mount in container["volumeMounts"]}


# ---- the build Job ----


def test_job_is_bounded_and_cleans_up_after_itself() -> None:
    spec = gen.job_manifest(gen.lambda_function("hello", gen.with_spec(build={"timeout": "10m"})))["spec"]
    assert spec["activeDeadlineSeconds"] == 600
    assert spec["backoffLimit"] == 3
    assert spec["ttlSecondsAfterFinished"] == 3600
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_job_belongs_to_its_function_and_carries_the_builds_identity() -> None:
    fn = gen.lambda_function()
    job = gen.job(fn)
    assert child.ownership(job, fn.metadata) is Ownership.OURS
    assert job.build_digest == gen.build_digest(fn)
    assert job.function == fn.key


def test_source_that_can_never_be_built_takes_one_attempt() -> None:
    rules = gen.job_manifest(gen.lambda_function())["spec"]["podFailurePolicy"]["rules"]
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    assert rules[1]["action"] == "FailJob"
    assert rules[1]["onExitCodes"] == {"containerName": "build-context", "operator": "In", "values": [65]}


def test_source_credentials_reach_the_init_container_alone() -> None:
    pod = _pod(gen.with_source(gen.git(secretRef={"name": "deploy"})))
    context, kaniko = pod["initContainers"][0], pod["containers"][0]
    assert "source-credentials" in _mounts(context)
    assert "source-credentials" not in _mounts(kaniko)
    assert {"name": "source-credentials", "secret": {"secretName": "deploy"}} in pod["volumes"]


@pytest.mark.parametrize("build", [{"pushSecret": "push"}, {"imagePullSecret": "push"}])
def test_push_credentials_reach_kaniko_alone(build: dict[str, str]) -> None:
    pod = _pod(gen.with_spec(build=build))
    context, kaniko = pod["initContainers"][0], pod["containers"][0]
    assert "push-credentials" in _mounts(kaniko)
    assert "push-credentials" not in _mounts(context)
    volume = next(one for one in pod["volumes"] if one["name"] == "push-credentials")
    assert volume["secret"] == {"secretName": "push", "items": [{"key": ".dockerconfigjson", "path": "config.json"}]}


def test_no_container_of_a_build_gets_a_service_account_token() -> None:
    assert _pod()["automountServiceAccountToken"] is False


def test_build_pod_holds_pod_security_baseline_and_its_init_container_restricted() -> None:
    pod = _pod()
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    context = pod["initContainers"][0]["securityContext"]
    assert context["runAsNonRoot"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    kaniko = pod["containers"][0]["securityContext"]
    assert kaniko["capabilities"]["drop"] == ["ALL"]
    assert len(kaniko["capabilities"]["add"]) == 7
    assert not kaniko["allowPrivilegeEscalation"]


def test_kaniko_pushes_by_tag_and_tells_the_digest_in_its_termination_message() -> None:
    fn = gen.lambda_function()
    arguments = gen.job_manifest(fn)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--destination=kind-registry:5000/tenant-1/hello:{gen.build_digest(fn)[:32]}" in arguments
    assert "--digest-file=/dev/termination-log" in arguments
    assert "--context=dir:///workspace" in arguments
    assert "--insecure-registry=kind-registry:5000" in arguments
    assert "--cache-repo=kind-registry:5000/tenant-1/hello/cache" in arguments


def test_cache_can_be_switched_off() -> None:
    settings = replace(gen.SETTINGS, build=replace(gen.SETTINGS.build, cache=False))
    pod = gen.job_manifest(gen.lambda_function(), settings)["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    assert "--cache=false" in arguments
    assert not any(one.startswith("--cache-repo") for one in arguments)


def test_sources_of_every_kind_may_name_a_secret() -> None:
    store = {"bucket": "code", "key": "a.zip", "secretRef": {"name": "s"}}
    for kind in ("minio", "s3", "gcs"):
        fn = gen.lambda_function("hello", gen.with_source({"type": kind, kind: store}))
        secret = kaniko_job.source_secret_of(fn.spec.source)
        assert secret is not None
        assert secret.name == "s"
    assert kaniko_job.source_secret_of(gen.lambda_function().spec.source) is None


# ---- the Knative Service ----


def test_service_runs_the_image_under_pod_security_restricted() -> None:
    manifest = gen.service_manifest(gen.lambda_function())
    pod = manifest["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["image"] == f"localhost:5001/tenant-1/hello@{gen.IMAGE_DIGEST}"
    assert container["ports"] == [{"name": "http1", "containerPort": 8080}]
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["automountServiceAccountToken"] is False
    assert "securityContext" not in pod


def test_scaling_becomes_annotations_of_the_template() -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 7, "targetConcurrency": 20, "scaleToZeroGracePeriod": "1m"}
    manifest = gen.service_manifest(gen.lambda_function("hello", gen.with_spec(scaling=scaling)))
    assert manifest["spec"]["template"]["metadata"]["annotations"] == {
        "autoscaling.knative.dev/min-scale": "1",
        "autoscaling.knative.dev/max-scale": "7",
        "autoscaling.knative.dev/metric": "concurrency",
        "autoscaling.knative.dev/target": "20",
        "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "1m",
    }
    assert not any("autoscaling" in name for name in manifest["metadata"]["annotations"])


def test_environment_is_written_as_servers_write_it() -> None:
    variables = [
        {"name": "A", "value": "b"},
        {"name": "EMPTY", "value": ""},
        {"name": "BARE"},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
    ]
    manifest = gen.service_manifest(gen.lambda_function("hello", gen.with_spec(env=variables)))
    assert manifest["spec"]["template"]["spec"]["containers"][0]["env"] == [
        {"name": "A", "value": "b"},
        {"name": "EMPTY"},
        {"name": "BARE"},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
    ]


def test_pull_secret_is_named_in_the_functions_namespace() -> None:
    fn = gen.lambda_function("hello", gen.with_spec(build={"imagePullSecret": "pull"}))
    assert gen.service_manifest(fn)["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert "imagePullSecrets" not in gen.service_manifest(gen.lambda_function())["spec"]["template"]["spec"]


def test_stamp_changes_with_content_and_with_nothing_else() -> None:
    fn = gen.lambda_function()
    settings = gen.SETTINGS.serving
    same = knative_service.manifest(fn, image="x", settings=settings)
    assert child.applied_hash(same) == child.applied_hash(knative_service.manifest(fn, image="x", settings=settings))
    assert child.applied_hash(same) != child.applied_hash(knative_service.manifest(fn, image="y", settings=settings))
    assert meta.ANNOTATION_APPLIED not in same["spec"]["template"]["metadata"]["annotations"]


# ---- Triggers ----


def test_trigger_filters_exactly_and_sends_to_the_knative_service() -> None:
    fn = gen.lambda_function("hello", gen.with_trigger("default", type="order.placed", region="eu"))
    spec = trigger.manifest(fn, fn.spec.triggers[0], sink=None)["spec"]
    assert spec["filter"] == {"attributes": {"type": "order.placed", "region": "eu"}}
    ref = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello", "namespace": "tenant-1"}
    assert spec["subscriber"] == {"ref": ref}


def test_trigger_gives_as_many_events_at_a_time_as_a_replica_takes_requests() -> None:
    fn = gen.lambda_function("hello", gen.with_trigger("default"), gen.with_spec(scaling={"targetConcurrency": 1}))
    annotations = trigger.manifest(fn, fn.spec.triggers[0], sink=None)["metadata"]["annotations"]
    assert annotations["rabbitmq.eventing.knative.dev/parallelism"] == "1"


def test_trigger_without_a_sink_inherits_the_brokers_delivery() -> None:
    fn = gen.lambda_function("hello", gen.with_trigger("default"))
    assert "delivery" not in trigger.manifest(fn, fn.spec.triggers[0], sink=None)["spec"]


def test_trigger_with_a_sink_retries_before_it_gives_up() -> None:
    fn = gen.lambda_function("hello", gen.with_trigger("default"))
    sink = DeadLetterSink("http://operator.knative-lambda.svc:8080")
    delivery = trigger.manifest(fn, fn.spec.triggers[0], sink=sink)["spec"]["delivery"]
    assert delivery["retry"] == 5
    assert delivery["backoffPolicy"] == "exponential"
    assert delivery["backoffDelay"] == "PT1S"
    sent_to = "http://operator.knative-lambda.svc:8080/dead-letters/tenant-1/hello"
    assert delivery["deadLetterSink"] == {"uri": sent_to}


def test_retries_and_their_pauses_are_a_platform_engineers_choice() -> None:
    fn = gen.lambda_function("hello", gen.with_trigger("default"))
    sink = DeadLetterSink("http://sink", retries=2, backoff_seconds=0.5)
    delivery = trigger.manifest(fn, fn.spec.triggers[0], sink=sink)["spec"]["delivery"]
    assert (delivery["retry"], delivery["backoffDelay"]) == (2, "PT0.5S")


# ---- what is kept of them ----


@pytest.mark.parametrize(
    "project", [observed.project_job, observed.project_pod, observed.project_service, observed.project_trigger]
)
@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"metadata": None, "status": None, "spec": None},
        {"metadata": {"name": 1, "labels": [], "ownerReferences": "x", "annotations": 3}},
        {"metadata": {"name": "x"}, "status": {"conditions": "none", "containerStatuses": [None, {"state": []}]}},
        {"metadata": {"name": "x"}, "status": {"conditions": [3, {"type": "Failed", "status": "True", "message": 1}]}},
    ],
)
def test_objects_of_any_shape_are_projected(project: Any, obj: dict[str, Any]) -> None:
    assert project(obj).uid == ""


def test_change_that_nobody_reads_makes_equal_children() -> None:
    fn = gen.lambda_function()
    job = gen.job(fn)
    assert gen.job(fn, gen.with_status(active=1), lambda raw: raw["metadata"].update(resourceVersion="99")) == job
    assert gen.job(fn, gen.complete()) != job


def test_function_keeps_the_names_of_its_brokers() -> None:
    raw = gen.raw_function("hello", gen.with_trigger("b"), gen.with_trigger("a"), gen.with_trigger("a", type="x"))
    assert observed.project_function(raw).brokers == ("a", "b")
