"""From a signed webhook to a Ready function, with a poll so rare that nothing else can have done it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage, repository
from tests.apiserver.workdir import WorkingCopy
from tests.testbed import assets
from tests.testbed.gitserver import GitServer
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.processes import free_port

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "hooks" / "samples" / "github.json"
REPOSITORY = "shop"
SECRET = "shop-webhook"
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Forge:
    """GitHub, as far as a receiver sees it: the sample push of hooks/samples, signed."""

    client: httpx.Client
    port: int
    path: str = ""
    token: str = "a token that nobody else has"

    def deliver(self, *, ref: str = "refs/heads/main", token: str = "", identity: str = "") -> httpx.Response:
        body = json.dumps(json.loads(SAMPLE.read_text()) | {"ref": ref}).encode()
        signature = hmac.new((token or self.token).encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": identity or str(uuid.uuid4()),
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        return self.client.post(f"http://127.0.0.1:{self.port}{self.path}", content=body, headers=headers)


@dataclass(frozen=True, slots=True)
class Scene:
    """A repository that is polled once an hour and has been synced once."""

    stage: Stage
    copy: WorkingCopy
    forge: Forge

    def wait_applied(self, commit: str, *, timeout: float = 20) -> None:
        def look() -> bool:
            found = self.stage.api.get(self.stage.path("functionrepositories", REPOSITORY))
            return str(found.get("status", {}).get("appliedRevision", "")).endswith(commit)

        self.stage.wait(look, what=f"{commit} applied", timeout=timeout)

    def secret(self, token: str) -> None:
        data = {"token": base64.b64encode(token.encode()).decode()}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": data}
        self.stage.apply("secrets", manifest)


@pytest.fixture
def webhook_port() -> int:
    return free_port()


@pytest.fixture
def forge(webhook_port: int) -> Iterator[Forge]:
    """A forge that knows no path yet."""
    with httpx.Client(trust_env=False, timeout=20) as client:
        yield Forge(client, webhook_port)


@pytest.fixture
def listening(start_operator: StartOperator, webhook_port: int) -> Operator:
    """A controller that takes webhooks."""
    return start_operator("--webhook-port", str(webhook_port))


def set_up(stage: Stage, git_server: GitServer, folder: Path, forge: Forge) -> Scene:
    scene = Scene(stage, WorkingCopy(folder / "copy", git_server.create_repository(stage.namespace)), forge)
    scene.secret(scene.forge.token)
    scene.copy.function("first")
    commit = scene.copy.push()
    webhook = {"secretRef": {"name": SECRET}}
    manifest = repository(REPOSITORY, git_server.url(stage.namespace), interval="1h", webhook=webhook)
    stage.apply("functionrepositories", manifest)
    scene.wait_applied(commit)
    status = stage.api.get(stage.path("functionrepositories", REPOSITORY))["status"]
    scene.forge.path = status["webhookPath"]
    return scene


@pytest.fixture
def scene(stage: Stage, listening: Operator, git_server: GitServer, tmp_path: Path, forge: Forge) -> Scene:
    assert listening.running
    return set_up(stage, git_server, tmp_path, forge)


def test_a_signed_delivery_makes_a_pushed_function_ready_and_a_rotated_secret_needs_no_restart(scene: Scene) -> None:
    stage, forge = scene.stage, scene.forge
    scene.copy.function("second")
    scene.copy.push()
    time.sleep(1)
    assert stage.function("second") is None, "nobody polls"
    began = time.monotonic()
    answer = forge.deliver()
    answered = time.monotonic() - began
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    stage.wait_ready("second")
    assert answered < 1
    assert time.monotonic() - began < 15

    scene.secret("the next token")
    time.sleep(10.5)
    scene.copy.function("third")
    scene.copy.push()
    assert forge.deliver().status_code == 404, "the old token"
    assert forge.deliver(token="the next token").status_code == 202
    stage.wait_ready("third")


def test_what_is_refused_tells_the_sender_nothing_and_the_owner_why(scene: Scene) -> None:
    stage, forge = scene.stage, scene.forge
    refused = [forge.deliver(token="guess") for _ in range(20)]
    unknown = Forge(forge.client, forge.port, path="/hook/" + "0" * 64).deliver()

    def said(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
        return answer.status_code, {k: v for k, v in answer.headers.items() if k != "date"}, answer.content

    assert {said(answer)[0] for answer in refused} == {404}
    assert said(refused[0]) == said(unknown)

    def told() -> list[dict[str, object]]:
        return [event for event in stage.list("events") if event["reason"] == "WebhookRejected"]

    stage.wait(lambda: told() or None, what="an Event about the wrong signature")
    time.sleep(0.5)
    (event,) = told()
    assert event["regarding"]["name"] == REPOSITORY  # type: ignore[index]
    assert "the signature of a delivery was wrong" in str(event["note"])


def test_other_branches_are_ignored_and_a_suspended_repository_refuses(scene: Scene, git_server: GitServer) -> None:
    stage, forge = scene.stage, scene.forge
    asked = (stage.namespace, "info/refs git-upload-pack")
    before = git_server.requests[asked]
    assert forge.deliver(ref="refs/heads/other").json()["status"] == "ignored"
    time.sleep(1)
    assert git_server.requests[asked] == before
    stage.patch("functionrepositories", REPOSITORY, {"spec": {"suspend": True}})
    stage.wait(lambda: forge.deliver().status_code == 404 or None, what="a refusal")
    stage.patch("functionrepositories", REPOSITORY, {"spec": {"suspend": False}})
    stage.wait(lambda: forge.deliver().status_code == 202 or None, what="an acceptance")


def test_a_thousand_deliveries_cost_few_looks_and_none_too_few(scene: Scene, git_server: GitServer) -> None:
    forge = scene.forge
    asked = (scene.stage.namespace, "info/refs git-upload-pack")
    before = git_server.requests[asked]
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        half = list(pool.map(lambda _: forge.deliver().status_code, range(500)))
        scene.copy.function("late")
        commit = scene.copy.push()
        half += list(pool.map(lambda _: forge.deliver().status_code, range(500)))
    seconds = time.monotonic() - began
    assert set(half) == {202}
    scene.wait_applied(commit)
    pushes = 2  # git push asks for refs, too, and a fetch follows the look that finds something new
    assert git_server.requests[asked] - before <= 2 * seconds + 4 + pushes


def test_a_delivery_to_a_replica_that_does_not_lead_reaches_the_leader(
    stage: Stage, start_operator: StartOperator, git_server: GitServer, tmp_path: Path, forge: Forge
) -> None:
    leader = ("--leader-elect", "--lease-namespace", stage.namespace)
    start_operator(*leader, "--identity", "first")
    standby = start_operator(*leader, "--identity", "second", "--webhook-port", str(forge.port), wait=False)
    standby.wait_for_log("listening")
    scene = set_up(stage, git_server, tmp_path, forge)
    for name in ("second", "third"):
        scene.copy.function(name)
        commit = scene.copy.push()
        assert scene.forge.deliver().status_code == 202
        scene.wait_applied(commit)
        stage.wait_ready(name)
    found = stage.api.get(stage.path("functionrepositories", REPOSITORY))
    asked = found["metadata"]["annotations"]["lambda.knative.io/reconcile-requested-at"]
    assert asked.endswith(" second")
    assert found["status"]["lastHandledReconcileAt"] == asked
    lease = stage.api.get(stage.path("leases", "knative-lambda-operator"))
    assert lease["spec"]["holderIdentity"] == "first"


def test_the_commands_of_the_how_to_work_as_they_stand(
    stage: Stage,
    listening: Operator,
    git_server: GitServer,
    kubernetes_bed: KubernetesBed,
    tmp_path: Path,
    webhook_port: int,
) -> None:
    copy = WorkingCopy(tmp_path / "copy", git_server.create_repository(stage.namespace))
    copy.function("hello")
    copy.push()
    stage.apply("functionrepositories", repository(REPOSITORY, git_server.url(stage.namespace), interval="1h"))
    stage.wait_ready("hello")
    folder = tmp_path / "terminal"
    folder.mkdir()
    (folder / "hooks").symlink_to(ROOT / "hooks")
    script = folder / "kubectl"
    script.write_text(
        f'#!/bin/sh\nexec "{assets.kubectl()}" --kubeconfig "{kubernetes_bed.kubeconfig}" -n "{stage.namespace}" "$@"\n'
    )
    script.chmod(0o755)
    run = _terminal(folder, WEBHOOK_ADDRESS=f"http://127.0.0.1:{webhook_port}")
    blocks = _SHELL.findall((ROOT / "docs" / "how-to" / "webhooks.md").read_text())
    assert len(blocks) == 5
    said = [run(block) for block in blocks[:4]]
    assert "202 " in said[2]
    assert "202 " in said[3]
    run("echo guess > guess.txt")
    refused = blocks[2].replace("token.txt", "guess.txt")
    assert "404" in run(refused, code=22)
    stage.wait(lambda: "WebhookRejected" in run(blocks[4]) or None, what="the event that the page speaks of")
    assert listening.running


def _terminal(folder: Path, **environment: str) -> Callable[..., str]:
    def run(commands: str, *, code: int = 0) -> str:
        done = subprocess.run(
            ["sh", "-eu", "-c", commands],
            cwd=folder,
            env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **environment},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, f"{commands}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run
