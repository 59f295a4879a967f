"""The commands of functions on a real API server: list, describe, invoke, logs, events, delete."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.nodelogs import Node, pod
from tests.apiserver.stage import Stage, inline
from tests.listening import served
from tests.testbed.kubernetes import KubernetesBed

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(kubernetes_bed: KubernetesBed, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(kubernetes_bed.kubeconfig), "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def command(environment: dict[str, str]) -> Command:
    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "knative_lambda", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=60,
        )

    return run


class Answering:
    """What status.url leads to: repeats what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    def handler(self) -> type[BaseHTTPRequestHandler]:
        answering = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answering.got.append((self.command, headers, body))
                self.send_response(500 if body == b"fail" else 200)
                self.send_header("content-type", "text/plain")
                self.end_headers()
                self.wfile.write(b"got " + body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        return Handler


@pytest.fixture
def answering() -> Iterator[tuple[str, Answering]]:
    there = Answering()
    with served(there.handler()) as port:
        yield f"http://hello.shop.localhost:{port}", there


def test_a_ready_function_is_listed_and_described(
    stage: Stage, start_operator: StartOperator, command: Command
) -> None:
    start_operator()
    stage.apply(
        "lambdafunctions", inline("hello", triggers=[{"broker": "default", "filter": {"type": "order.placed"}}])
    )
    stage.apply("lambdafunctions", inline("plain"))
    stage.wait_ready("plain")
    listed = command("list", "-n", stage.namespace)
    assert (listed.returncode, listed.stderr) == (0, "")
    heading, _, plain = listed.stdout.splitlines()
    assert heading.split() == ["NAME", "READY", "PHASE", "REVISION", "URL", "IMAGE", "AGE"]
    assert plain.split()[:3] == ["plain", "True", "Ready"]
    assert f"http://plain.{stage.namespace}.example.com" in plain
    rows = json.loads(command("list", "-A", "-o", "json").stdout)
    mine = {row["name"]: row["ready"] for row in rows if row["namespace"] == stage.namespace}
    assert mine["plain"] == "True"
    assert set(mine) == {"hello", "plain"}

    shown = command("describe", f"{stage.namespace}/plain")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.split()[:2] == ["Function:", f"{stage.namespace}/plain"]
    assert "handler main.handler" in shown.stdout
    assert ["BuildReady", "True", "BuildSucceeded"] in [line.split()[:3] for line in shown.stdout.splitlines()]
    events = stage.wait(lambda: _events_about(command, stage, "plain", "Ready"), what="its Events")
    assert {event["kind"] for event in events} == {"LambdaFunction"}
    told = json.loads(command("describe", "hello", "-n", stage.namespace, "-o", "json").stdout)
    assert told["triggers"] == [{"broker": "default", "filter": {"type": "order.placed"}}]
    assert told["dead_letter_queue"] == f"knative-lambda-dlq.{stage.namespace}.hello"


def _events_about(command: Command, stage: Stage, name: str, reason: str) -> list[dict[str, Any]] | None:
    done = command("describe", name, "-n", stage.namespace, "-o", "json")
    found: list[dict[str, Any]] = json.loads(done.stdout)["events"]
    return found if any(event["reason"] == reason for event in found) else None


def test_a_function_is_invoked_where_its_status_says(
    stage: Stage, command: Command, answering: tuple[str, Answering]
) -> None:
    url, there = answering
    stage.apply("lambdafunctions", inline("hello"))
    early = command("invoke", "hello", "-n", stage.namespace)
    assert (early.returncode, early.stdout) == (2, "")
    assert "has no address yet (its controller has not looked at it yet)" in early.stderr

    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    stage.patch("lambdafunctions", "hello/status", {"status": {"url": url, "conditions": [ready]}})
    done = command("invoke", f"{stage.namespace}/hello", "--data", '{"a": 1}')
    assert (done.returncode, done.stdout) == (0, 'got {"a": 1}')
    assert done.stderr.startswith("200 OK, 12 bytes of text/plain in ")
    piped = command("invoke", "hello", "-n", stage.namespace, "--type", "order.placed", "--file", "-", text="über")
    assert (piped.returncode, piped.stdout) == (0, "got über")
    failed = command("invoke", "hello", "-n", stage.namespace, "--data", "fail")
    assert (failed.returncode, failed.stdout) == (1, "got fail")
    assert failed.stderr.startswith("500 ")

    (_, plain, _), (_, event, body), _ = there.got
    assert plain["host"] == url.removeprefix("http://")
    assert plain["content-type"] == "application/json"
    assert (event["ce-type"], event["ce-specversion"], event["ce-source"]) == (
        "order.placed",
        "1.0",
        "/kn-lambda/invoke",
    )
    assert body == "über".encode()


def test_events_are_followed_while_a_function_comes_and_goes(
    stage: Stage, start_operator: StartOperator, environment: dict[str, str], command: Command
) -> None:
    start_operator()
    following = subprocess.Popen(
        [sys.executable, "-m", "knative_lambda", "events", "-f", "-n", stage.namespace, "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    arrived: queue.Queue[dict[str, Any]] = queue.Queue()
    assert following.stdout is not None
    reader = threading.Thread(target=_read, args=(following.stdout, arrived), daemon=True)
    reader.start()
    try:
        stage.apply("lambdafunctions", inline("hello"))
        stage.wait_ready("hello")
        _wait_for(arrived, "Ready")
        refused = command("delete", "hello", "-n", stage.namespace)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "give --yes" in refused.stderr
        gone = command("delete", "hello", "-n", stage.namespace, "--yes")
        assert (gone.returncode, gone.stdout) == (0, f"function {stage.namespace}/hello is being deleted\n")
        _wait_for(arrived, "Deleting")
        stage.wait_gone("lambdafunctions", "hello")
    finally:
        following.terminate()
        following.wait(20)
        reader.join(10)
        following.stdout.close()
    again = command("delete", "hello", "-n", stage.namespace, "--yes")
    assert (again.returncode, "there is no function hello" in again.stderr) == (2, True)


def _read(lines: Iterator[str], arrived: queue.Queue[dict[str, Any]]) -> None:
    for line in lines:
        arrived.put(json.loads(line))


def _wait_for(arrived: queue.Queue[dict[str, Any]], reason: str) -> None:
    deadline = time.monotonic() + 30
    while arrived.get(timeout=max(0.1, deadline - time.monotonic()))["reason"] != reason:
        assert time.monotonic() < deadline


def test_git_would_bring_a_deleted_function_back(stage: Stage, command: Command) -> None:
    manifest = inline("hello")
    manifest["metadata"]["labels"] = {"lambda.knative.io/repository": "functions"}
    stage.apply("lambdafunctions", manifest)
    done = command("delete", f"{stage.namespace}/hello", "--yes", "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["repository"] == f"{stage.namespace}/functions"
    assert f"repository {stage.namespace}/functions makes it again" in done.stderr


def test_logs_of_pods_come_from_their_node_without_the_sidecar(
    kubernetes_bed: KubernetesBed, stage: Stage, command: Command, tmp_path: Path
) -> None:
    stage.apply("lambdafunctions", inline("hello"))
    nothing = command("logs", "hello", "-n", stage.namespace)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no pod has a log; it is not ready" in nothing.stderr
    node = Node(f"node-{stage.namespace}")
    with node.up(kubernetes_bed.api, tmp_path / "node"):
        stage.api.create(stage.path("pods"), pod("hello-1", function="hello", node=node.name))
        node.logs["hello-1", "function"] = b"one\ntwo\nno end of line"
        done = command("logs", f"{stage.namespace}/hello", "--tail", "3")
        assert (done.returncode, done.stdout) == (0, "one\ntwo\nno end of line\n")
        assert done.stderr == "==> hello-1 function\n"
        assert node.asked == [f"/containerLogs/{stage.namespace}/hello-1/function?tailLines=3"]
        del node.logs["hello-1", "function"]
        gone = command("logs", f"{stage.namespace}/hello")
        assert (gone.returncode, gone.stdout) == (0, "")
        assert "get_log Pod" in gone.stderr


def test_a_running_pod_is_followed_until_its_container_ends(
    kubernetes_bed: KubernetesBed, stage: Stage, environment: dict[str, str], tmp_path: Path
) -> None:
    stage.apply("lambdafunctions", inline("hello"))
    node = Node(f"node-{stage.namespace}")
    command = [sys.executable, "-m", "knative_lambda", "logs", f"{stage.namespace}/hello", "-f", "--tail", "1"]
    with node.up(kubernetes_bed.api, tmp_path / "node"):
        node.logs["hello-1", "function"] = b"one\n"
        stage.api.create(stage.path("pods"), pod("hello-1", function="hello", node=node.name))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as following:
            assert following.stdout is not None
            running = {"name": "function", "state": {"running": {}}, "image": "a", "imageID": "", "ready": True}
            status = {"phase": "Running", "containerStatuses": [{**running, "restartCount": 0}]}
            stage.patch("pods", "hello-1/status", {"status": status})
            assert following.stdout.readline() == "one\n"
            node.more.put(b"two\n")
            assert following.stdout.readline() == "two\n"
            following.terminate()
    (asked,) = node.asked
    assert asked.startswith(f"/containerLogs/{stage.namespace}/hello-1/function?follow=true")


def test_what_is_not_there_is_told_in_one_line(stage: Stage, command: Command) -> None:
    for arguments in (("describe", "nobody"), ("invoke", "nobody"), ("logs", "nobody"), ("delete", "nobody", "--yes")):
        done = command(*arguments, "-n", stage.namespace)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert f"there is no function nobody in namespace {stage.namespace}" in done.stderr
    empty = command("list", "-n", stage.namespace)
    assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", f"no functions in namespace {stage.namespace}\n")
    assert command("list", "-n", stage.namespace, "-o", "json").stdout == "[]\n"
