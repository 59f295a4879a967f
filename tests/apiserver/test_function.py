"""The life of one function on a real API server: children, drift, strangers, failed builds, deletion."""

from __future__ import annotations

import time

import pytest

from tests.apiserver.conftest import StandIns
from tests.apiserver.operator import Operator
from tests.apiserver.proxy import ApiProxy, until_quiet
from tests.apiserver.stage import Stage, condition, inline
from tests.testbed import ksvc
from tests.testbed.apiclient import ApiError
from tests.testbed.standins import PodOutcome, ServiceOutcome

IMAGE = "registry.example.com/shop/ready@sha256:" + "a" * 64


def rest(proxy: ApiProxy) -> None:
    """Soon, for one function."""
    until_quiet(proxy, quiet=1.5, timeout=30)


def test_an_inline_function_becomes_ready_and_passes_knatives_own_validation(stage: Stage, operator: Operator) -> None:
    stage.apply("lambdafunctions", inline("hello", env=[{"name": "GREETING", "value": "hi"}]))
    fn = stage.wait_ready("hello")
    service = stage.api.get(stage.path("services", "hello"))
    assert ksvc.check([service]) == []
    assert fn["status"]["observedGeneration"] == fn["metadata"]["generation"]
    assert operator.running


def test_a_ready_image_is_deployed_without_a_build(stage: Stage, operator: Operator) -> None:
    stage.apply(
        "lambdafunctions",
        {
            "apiVersion": "lambda.knative.io/v1alpha1",
            "kind": "LambdaFunction",
            "metadata": {"name": "ready"},
            "spec": {"source": {"type": "image", "image": {"uri": IMAGE}}},
        },
    )
    stage.wait_ready("ready")
    assert stage.jobs_of("ready") == []
    assert stage.api.get(stage.path("services", "ready"))["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert operator.running


def test_a_function_costs_eight_writes_and_no_read_until_it_is_ready(
    stage: Stage, proxied: Operator, proxy: ApiProxy
) -> None:
    rest(proxy)
    before = len(proxy.calls)
    stage.apply("lambdafunctions", inline("thrifty"))
    stage.wait_ready("thrifty")
    rest(proxy)
    spent = [f"{call.method} {call.resource}" for call in proxy.calls[before:] if not call.watch]
    until_ready = spent[: len(spent) - spent[::-1].index("PATCH lambdafunctions/status")]
    assert [one for one in spent if one.startswith("GET")] == []
    assert len(until_ready) <= 8, until_ready
    assert len(spent) <= 9, "after Ready there is only the notice that says so"
    assert proxied.running


def test_nothing_is_written_when_nothing_changes(stage: Stage, proxied: Operator, proxy: ApiProxy) -> None:
    stage.apply("lambdafunctions", inline("quiet"))
    stage.wait_ready("quiet")
    rest(proxy)
    before = len(proxy.calls)
    service = stage.api.get(stage.path("services", "quiet"))
    stage.patch("services", "quiet", {"metadata": {"annotations": {"somebody": "else"}}})
    stage.patch("lambdafunctions", "quiet", {"metadata": {"labels": {"team": "shop"}}})
    time.sleep(2)
    assert [call for call in proxy.calls[before:] if not call.watch] == []
    assert stage.api.get(stage.path("services", "quiet"))["metadata"]["generation"] == service["metadata"]["generation"]
    assert proxied.running


def test_a_hand_edit_of_a_child_is_repaired_with_one_write(stage: Stage, proxied: Operator, proxy: ApiProxy) -> None:
    stage.apply("lambdafunctions", inline("edited"))
    stage.wait_ready("edited")
    rest(proxy)
    before = proxy.counts()
    path = stage.path("services", "edited")
    image = stage.api.get(path)["spec"]["template"]["spec"]["containers"][0]["image"]
    container = {"image": "evil.example.com/x@sha256:" + "b" * 64}
    stage.patch("services", "edited", {"spec": {"template": {"spec": {"containers": [container]}}}})

    def repaired() -> bool:
        containers = stage.api.get(path)["spec"]["template"]["spec"]["containers"]
        return bool(containers[0]["image"] == image)

    stage.wait(repaired, what="the image set back")
    rest(proxy)
    spent = proxy.counts() - before
    assert spent[("PATCH", "services")] == 1
    assert proxied.running


def test_a_childs_name_that_a_stranger_holds_is_a_condition_and_never_overwritten(
    stage: Stage, operator: Operator
) -> None:
    foreign = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "taken"},
        "spec": {"template": {"spec": {"containers": [{"image": "somebody/else:1"}]}}},
    }
    stage.apply("services", foreign)
    stage.apply("lambdafunctions", inline("taken"))
    fn = stage.wait_reason("taken", "DeployReady", "NotOwned")
    assert condition(fn, "Ready")["status"] == "False"
    assert condition(fn, "Stalled")["status"] == "True"
    kept = stage.api.get(stage.path("services", "taken"))
    assert kept["spec"]["template"]["spec"]["containers"][0]["image"] == "somebody/else:1"
    stage.delete("services", "taken")
    stage.wait_ready("taken")
    assert operator.running


def test_a_failed_build_says_the_last_lines_of_its_log(stage: Stage, operator: Operator, standins: StandIns) -> None:
    log = "Collecting flask==99\nerror: pip could not find flask==99"
    standins.kubelet.outcomes.set(f"{stage.namespace}/broken-*", PodOutcome.fail(log))
    stage.apply("lambdafunctions", inline("broken"))
    fn = stage.wait_reason("broken", "BuildReady", "BuildFailed", timeout=90)
    assert "pip could not find flask==99" in condition(fn, "BuildReady")["message"]
    assert fn["status"]["phase"] == "Failed"
    assert condition(fn, "Stalled")["status"] == "True"
    assert stage.api.find(stage.path("services", "broken")) is None
    assert operator.running


def test_a_failed_build_of_a_new_version_leaves_the_old_one_running(
    stage: Stage, operator: Operator, standins: StandIns
) -> None:
    stage.apply("lambdafunctions", inline("kept"))
    image = stage.wait_ready("kept")["status"]["image"]
    standins.kubelet.outcomes.set(f"{stage.namespace}/kept-*", PodOutcome.fail("no such module"))
    stage.apply("lambdafunctions", inline("kept", code="import nothing\n"))
    stage.wait_reason("kept", "BuildReady", "BuildFailed", timeout=90)
    service = stage.api.get(stage.path("services", "kept"))
    assert service["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert operator.running


def test_a_build_that_never_ends_is_ended(stage: Stage, operator: Operator, standins: StandIns) -> None:
    standins.kubelet.outcomes.set(f"{stage.namespace}/endless-*", PodOutcome.never_end())
    stage.apply("lambdafunctions", inline("endless", build={"timeout": "10s"}))
    fn = stage.wait_reason("endless", "BuildReady", "BuildTimeout", timeout=60)
    assert "10s" in condition(fn, "BuildReady")["message"]
    assert operator.running


def test_a_container_that_does_not_start_is_said_in_knatives_words(
    stage: Stage, operator: Operator, standins: StandIns
) -> None:
    standins.knative.outcomes.set(
        f"{stage.namespace}/crash*", ServiceOutcome.fail("Container failed with: no such file")
    )
    stage.apply("lambdafunctions", inline("crash"))
    fn = stage.wait_reason("crash", "ServiceReady", "ServiceFailed")
    assert "no such file" in condition(fn, "ServiceReady")["message"]
    assert operator.running


def test_deleting_a_function_leaves_nothing_of_ours(stage: Stage, operator: Operator) -> None:
    stage.apply("lambdafunctions", inline("gone", triggers=[{"broker": "default", "filter": {"type": "a"}}]))
    stage.wait(lambda: stage.triggers_of("gone"), what="its Trigger")
    stage.delete("lambdafunctions", "gone")
    stage.wait_gone("lambdafunctions", "gone")
    stage.wait_gone("services", "gone")
    stage.wait(lambda: not stage.jobs_of("gone") and not stage.triggers_of("gone"), what="Jobs and Triggers gone")
    assert operator.running


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"runtime": {"language": "cobol"}}, "cobol"),
        ({"source": {"type": "git"}}, "set source.git when, and only when, type is git"),
        ({"scaling": {"minReplicas": 9, "maxReplicas": 3}}, "minReplicas must not exceed maxReplicas"),
        ({"env": [{"name": "PORT", "value": "1"}]}, "Knative sets PORT"),
        (
            {"source": {"type": "s3", "s3": {"bucket": "abc", "key": "k", "accessKey": "AKIA"}}},
            "credentials do not belong in a spec",
        ),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_with_the_reason(stage: Stage, spec: object, words: str) -> None:
    manifest = inline("wrong")
    manifest["spec"] |= spec  # type: ignore[operator]
    with pytest.raises(ApiError) as refused:
        stage.apply("lambdafunctions", manifest)
    assert words in refused.value.message


def test_a_name_that_knative_could_not_take_is_refused(stage: Stage) -> None:
    with pytest.raises(ApiError) as refused:
        stage.apply("lambdafunctions", inline("a" * 53))
    assert "52 characters" in refused.value.message


def test_defaults_apply_on_the_server_below_parents_that_nobody_wrote(stage: Stage) -> None:
    stage.apply("lambdafunctions", inline("plain"))
    spec = stage.function("plain")["spec"]
    assert spec["scaling"] == {
        "minReplicas": 0, "maxReplicas": 50, "targetConcurrency": 10, "scaleToZeroGracePeriod": "30s",
    }  # fmt: skip
    assert spec["resources"]["limits"] == {"memory": "64Mi", "cpu": "50m"}
    assert spec["build"] == {"timeout": "30m"}
