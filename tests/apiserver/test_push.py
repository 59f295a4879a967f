"""git push to Ready, on a real API server, a real git server and a real RabbitMQ."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage, condition, repository
from tests.apiserver.tap import EventTap
from tests.apiserver.workdir import WorkingCopy
from tests.testbed.apiclient import ApiError
from tests.testbed.gitserver import Failure, GitServer

TRIGGER = "  triggers:\n    - broker: default\n      filter:\n        type: order.placed\n"


@pytest.fixture
def copy(git_server: GitServer, namespace: str, tmp_path: Path) -> WorkingCopy:
    """A working copy of a repository of the test's own."""
    return WorkingCopy(tmp_path / "copy", git_server.create_repository(namespace))


@pytest.fixture
def url(git_server: GitServer, namespace: str) -> str:
    return git_server.url(namespace)


def sync_now(stage: Stage, stamp: str) -> None:
    """What a person does who does not want to wait for the interval."""
    annotation = {"metadata": {"annotations": {"lambda.knative.io/reconcile-requested-at": stamp}}}
    stage.patch("functionrepositories", "shop", annotation)


def wait_repository(stage: Stage, kind: str, reason: str) -> dict[str, object]:
    def look() -> dict[str, object] | None:
        found = stage.api.find(stage.path("functionrepositories", "shop"))
        return found if found and condition(found, kind).get("reason") == reason else None

    try:
        return stage.wait(look, what=f"repository {kind}={reason}")
    except AssertionError as error:
        found = stage.api.find(stage.path("functionrepositories", "shop")) or {}
        raise AssertionError(f"{error}; its status: {found.get('status')}") from None


def wait_applied(stage: Stage, commit: str) -> dict[str, object]:
    return stage.wait(
        lambda: next(
            (
                repo
                for repo in stage.list("functionrepositories")
                if str(repo.get("status", {}).get("appliedRevision", "")).endswith(commit)
            ),
            None,
        ),
        what=f"commit {commit} applied",
    )


def test_a_push_becomes_a_ready_function_with_children_and_events(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str, tap: EventTap
) -> None:
    broker = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "default"}, "spec": {}}
    stage.apply("brokers", broker)
    copy.function("hello", extra=TRIGGER)
    commit = copy.push()

    stage.apply("functionrepositories", repository("shop", url))
    fn = stage.wait_ready("hello")

    assert fn["spec"]["source"]["git"]["commit"] == commit
    assert fn["status"]["phase"] == "Ready"
    (job,) = stage.jobs_of("hello")
    (trigger,) = stage.triggers_of("hello")
    service = stage.api.get(stage.path("services", "hello"))
    image = service["spec"]["template"]["spec"]["containers"][0]["image"]
    assert "@sha256:" in image
    assert (
        fn["status"]["buildStatus"] | {"imageURI": image, "jobName": job["metadata"]["name"]}
        == fn["status"]["buildStatus"]
    )
    assert trigger["spec"]["filter"]["attributes"] == {"type": "order.placed"}
    assert fn["status"]["url"].startswith("http://hello.")
    tap.wait_for(lambda event: event["type"] == "lambda.status.updated" and event["data"]["phase"] == "Ready")
    types = list(tap.ids_by_type("hello", stage.namespace))
    assert set(types) >= {
        "lambda.function.created", "lambda.build.started", "lambda.build.completed",
        "lambda.service.created", "lambda.status.updated",
    }  # fmt: skip
    assert operator.running


def test_the_next_commit_rebuilds_only_what_it_touched(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str
) -> None:
    copy.function("left")
    copy.function("right")
    first = copy.push()
    stage.apply("functionrepositories", repository("shop", url))
    left = stage.wait_ready("left")
    right = stage.wait_ready("right")

    copy.function("right", code="def handler(request):\n    return 'second'\n")
    second = copy.push()
    sync_now(stage, "2")
    wait_applied(stage, second)
    stage.wait(lambda: len(stage.jobs_of("right")) == 2, what="a second build of right")
    stage.wait_ready("right")

    assert stage.function("left")["metadata"]["generation"] == left["metadata"]["generation"]
    assert stage.function("left")["spec"]["source"]["git"]["commit"] == first
    assert stage.function("right")["spec"]["source"]["git"]["commit"] == second
    assert stage.function("right")["status"]["image"] != right["status"]["image"]
    assert len(stage.jobs_of("left")) == 1
    assert operator.running


def test_a_broken_function_is_a_finding_and_blocks_nobody(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str
) -> None:
    copy.function("good")
    copy.function("bad", extra="  scaling:\n    minReplicas: many\n")
    copy.push()
    stage.apply("functionrepositories", repository("shop", url))
    stage.wait_ready("good")

    repo = wait_repository(stage, "Ready", "Findings")
    (finding,) = repo["status"]["findings"]
    assert finding["file"] == "functions/bad/function.yaml"
    assert finding["line"] == 9
    assert finding["pointer"] == "/spec/scaling/minReplicas"
    assert stage.function("bad") is None
    assert operator.running


def test_a_hand_edit_of_a_field_that_git_owns_is_set_back(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str
) -> None:
    copy.function("hello", extra="  scaling:\n    maxReplicas: 7\n")
    copy.push()
    stage.apply("functionrepositories", repository("shop", url))
    stage.wait_ready("hello")

    stage.patch("lambdafunctions", "hello", {"spec": {"scaling": {"maxReplicas": 99}}})
    stage.wait(lambda: stage.function("hello")["spec"]["scaling"]["maxReplicas"] == 7, what="the edit set back")
    assert operator.running


def test_a_function_that_leaves_the_repository_leaves_the_cluster_with_all_its_children(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str, tap: EventTap
) -> None:
    copy.function("stays")
    copy.function("goes")
    copy.push()
    stage.apply("functionrepositories", repository("shop", url))
    stage.wait_ready("stays")
    stage.wait_ready("goes")

    copy.remove("functions/goes")
    copy.push()
    sync_now(stage, "2")
    stage.wait_gone("lambdafunctions", "goes")
    stage.wait_gone("services", "goes")
    stage.wait(lambda: not stage.jobs_of("goes"), what="its Jobs gone")
    tap.wait_for(lambda event: event["type"] == "lambda.function.deleted" and event["data"]["name"] == "goes")
    assert stage.function("stays") is not None
    assert operator.running


def test_a_repository_that_shrinks_to_nothing_deletes_nothing(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str
) -> None:
    copy.function("hello")
    copy.push()
    stage.apply("functionrepositories", repository("shop", url))
    stage.wait_ready("hello")

    copy.remove("functions")
    copy.write("README", "nothing here")
    copy.push()
    sync_now(stage, "2")
    wait_repository(stage, "Applied", "PruneGuarded")
    assert stage.function("hello")["metadata"].get("deletionTimestamp") is None
    assert operator.running


def test_an_absent_branch_is_an_error_and_never_the_default_branch(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str
) -> None:
    copy.function("hello")
    copy.push()
    stage.apply("functionrepositories", repository("shop", url, ref={"branch": "no-such-branch"}))
    repo = wait_repository(stage, "Fetched", "RefNotFound")
    assert "no-such-branch" in condition(repo, "Fetched")["message"]
    assert stage.list("lambdafunctions") == []
    assert operator.running


def test_credentials_that_expire_are_named_and_come_back_with_the_secret(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str, git_server: GitServer, namespace: str
) -> None:
    copy.function("hello")
    copy.push()
    git_server.require(namespace, user="bot", password="right-password")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}}
    stage.apply("secrets", {**secret, "stringData": {"username": "bot", "password": "old-password"}})
    stage.apply("functionrepositories", repository("shop", url, secretRef={"name": "git"}))
    repo = wait_repository(stage, "Fetched", "AuthenticationFailed")
    assert "old-password" not in str(repo)

    stage.apply("secrets", {**secret, "stringData": {"username": "bot", "password": "right-password"}})
    sync_now(stage, "2")
    stage.wait(lambda: stage.function("hello"), what="the function after the Secret was mended")
    assert "old-password" not in operator.log_file.read_text()


def test_a_remote_that_is_away_is_asked_again(
    stage: Stage, operator: Operator, copy: WorkingCopy, url: str, git_server: GitServer
) -> None:
    copy.function("hello")
    copy.push()
    git_server.failure = Failure.UNAVAILABLE
    stage.apply("functionrepositories", repository("shop", url))
    wait_repository(stage, "Fetched", "Unreachable")
    git_server.failure = Failure.NONE
    stage.wait_ready("hello")
    assert operator.running


@pytest.mark.parametrize("address", ["ext::sh -c id", "-oProxyCommand=id", "file:///etc"])
def test_an_address_that_could_run_a_program_is_refused_by_the_api_server(stage: Stage, address: str) -> None:
    with pytest.raises(ApiError) as refused:
        stage.apply("functionrepositories", repository("shop", address))
    assert refused.value.status == 422
    assert "spec.url" in refused.value.message
