"""What is read of a build Job and written of it; `resources.observed` must understand every word."""

from __future__ import annotations

import pytest

from knative_lambda.api import kinds
from knative_lambda.local.building import build_job
from knative_lambda.local.building.build_job import BuildJob, End
from knative_lambda.resources import observed
from knative_lambda.resources.build_request import EXIT_REFUSED
from knative_lambda.resources.kaniko_job import CONTEXT_CONTAINER, KANIKO_CONTAINER
from knative_lambda.resources.observed import JobState
from tests import gen
from tests.gen import Raw


def stored(*parts: gen.Part) -> Raw:
    manifest = gen.job_manifest(gen.lambda_function("hello", *parts))
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "job-uid"}}


def read(raw: Raw) -> BuildJob:
    job = build_job.project(raw)
    assert job is not None
    return job


def test_job_says_what_to_build_and_how_long() -> None:
    raw = stored()
    job = read(raw)
    variables = raw["spec"]["template"]["spec"]["initContainers"][0]["env"]
    assert job.request == next(one["value"] for one in variables if one["name"] == "BUILD_REQUEST")
    assert (job.seconds, job.retries, job.ttl, job.secret) == (1800, 3, 3600, "")
    assert job.ended is None


def test_job_names_the_secret_of_its_source() -> None:
    source = gen.git(secretRef={"name": "deploy-key"})
    assert read(stored(gen.with_source(source))).secret == "deploy-key"


def test_job_of_somebody_else_is_none_of_ours() -> None:
    raw = stored()
    raw["spec"]["template"]["spec"]["initContainers"] = []
    assert build_job.project(raw) is None


def seen(end: End) -> tuple[observed.JobSeen, observed.PodSeen]:
    """The Job and its Pod as an informer keeps them."""
    raw = stored()
    job = read(raw)
    pod = {**build_job.pod(job), "status": build_job.pod_status(end, gen.NOW)}
    return observed.project_job({**raw, "status": build_job.job_status(end, gen.NOW)}), observed.project_pod(pod)


def test_built_image_is_told_as_kaniko_tells_it() -> None:
    job, pod = seen(End.built(gen.IMAGE_DIGEST))
    assert (job.state, job.ended) == (JobState.COMPLETE, gen.NOW)
    found = pod.end_of(KANIKO_CONTAINER)
    assert found is not None
    assert (found.exit_code, found.message) == (0, gen.IMAGE_DIGEST)
    assert pod.job_uid == job.uid
    assert pod.function == job.function


def test_installer_that_failed_is_named_with_what_it_said() -> None:
    job, pod = seen(End.failed("npm", 1, "npm error code E404"))
    assert (job.state, job.reason) == (JobState.FAILED, "BackoffLimitExceeded")
    assert [end for end in pod.ends if end.exit_code] == [observed.ContainerEnd("npm", 1, "npm error code E404")]


def test_source_that_failed_is_told_of_the_init_container() -> None:
    job, pod = seen(End.failed(CONTEXT_CONTAINER, EXIT_REFUSED, "the source holds a file of 100 GiB"))
    assert job.reason == "PodFailurePolicy"
    assert [end.container for end in pod.ends] == [CONTEXT_CONTAINER]
    assert pod.blocked == ""


def test_deadline_is_told_as_a_cluster_tells_it() -> None:
    job, _ = seen(End.expired())
    assert (job.state, job.reason) == (JobState.FAILED, "DeadlineExceeded")


@pytest.mark.parametrize("size", [4096, 10_000])
def test_long_message_keeps_its_end_within_the_kubelets_limit(size: int) -> None:
    _, pod = seen(End.failed("pip", 1, "é" * size + "the end"))
    assert pod.ends[1].message.endswith("the end")
    assert len(pod.ends[1].message.encode()) <= build_job.MESSAGE_BYTES


def test_job_that_is_over_is_read_as_over() -> None:
    raw = stored()
    for end in (End.built(gen.IMAGE_DIGEST), End.expired()):
        assert read({**raw, "status": build_job.job_status(end, gen.NOW)}).ended == gen.NOW


def test_pod_belongs_to_its_job_by_uid() -> None:
    job = read(stored())
    owner = build_job.pod(job)["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == (kinds.JOB.kind, "job-uid", True)
