"""Signed deliveries per second beside a bare Starlette route, and the time from a webhook to an applied commit.

Both routes are served by one child process and called by the same client in turn, in one run. The second part is the
controller as its own process, with a real API server and a real git server.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from knative_lambda.kit.clock import SystemClock
from knative_lambda.receivers.app import build
from knative_lambda.receivers.looks import Looks
from knative_lambda.wiring import http
from knative_lambda.wiring.http import Listener
from tests.apiserver.operator import Operator
from tests.apiserver.stage import repository
from tests.apiserver.workdir import WorkingCopy
from tests.benchmarks.table import Figure
from tests.testbed import assets
from tests.testbed.assets import project_crds
from tests.testbed.gitserver import GitServer
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.processes import free_port, port_open
from tests.unit.receivers.senders import TOKEN, body_of
from tests.unit.receivers.stage import Stage

CONNECTIONS = 16
ROUNDS = 3
PUSHES = 40
GOAL_SECONDS = 1.0
NAMESPACE = "receiver"


def run(count: int) -> list[Figure]:
    """`count` deliveries per round."""
    return [*_rates(count), *_latency()]


# Deliveries per second.


def _rates(count: int) -> list[Figure]:
    rounds = []
    with _served() as (port, bare_port, path):
        for number in range(ROUNDS):
            bare = asyncio.run(_hammer(bare_port, "/bare", count, f"bare-{number}"))
            ours = asyncio.run(_hammer(port, path, count, f"ours-{number}"))
            rounds.append((bare, ours))
    bare, ours = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    return [
        Figure("bare Starlette route, requests/s", f"{bare:.0f}"),
        Figure("signed GitHub deliveries/s (2 KiB, HMAC, JSON, dedupe)", f"{ours:.0f}"),
        Figure("ratio", f"{ours / bare:.2f}"),
    ]


@contextmanager
def _served() -> Iterator[tuple[int, int, str]]:
    """(port of the receiver, port of the bare route, path of the receiver), in a process of their own."""
    ports = free_port(), free_port()
    command = [sys.executable, "-m", "tests.benchmarks.receiver", *map(str, ports)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            path = process.stdout.readline().strip()
            while not all(map(port_open, ports)):
                time.sleep(0.05)
            yield *ports, path
        finally:
            process.terminate()


async def _serve(port: int, bare_port: int) -> None:
    async def bare(request: Request) -> Response:
        await request.body()
        return Response(b'{"status":"accepted"}', status_code=202, media_type="application/json")

    stage = Stage(clock=SystemClock())
    await stage.secret()

    async def look(_: object) -> None:
        await asyncio.sleep(0)

    looks = Looks(look, clock=stage.clock)
    app = build(replace(stage.world, ask=looks.ask))
    print(stage.path, flush=True)
    await asyncio.gather(
        looks.run(),
        http.service(Listener("receiver", "127.0.0.1", port), app).run(),
        http.service(
            Listener("bare", "127.0.0.1", bare_port), Starlette(routes=[Route("/bare", bare, methods=["POST"])])
        ).run(),
    )


async def _hammer(port: int, path: str, count: int, name: str) -> float:
    """Requests per second over some connections that stay open."""
    body = json.dumps(json.loads(body_of("github"))).encode()
    signature = hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
    numbers = iter(range(count))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\n"
                f"X-GitHub-Delivery: {name}-{number}\r\nX-Hub-Signature-256: sha256={signature}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(f"refused: {head!r}")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - began)


# From webhook to applied.


def _latency() -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="knative-lambda-bench-"))
    crds = [*assets.crd_files(), *project_crds()]
    with KubernetesBed.start(crds=crds, controllers=False) as bed, GitServer.start() as git_server:
        bed.create_namespace(NAMESPACE)
        copy = WorkingCopy(folder / "copy", git_server.create_repository("shop"))
        port = free_port()
        operator = Operator(
            kubeconfig=bed.kubeconfig,
            folder=folder / "operator",
            arguments=(
                "--namespace", NAMESPACE, "--no-leader-elect", "--events", "none", "--webhook-port", str(port),
            ),
        ).start()  # fmt: skip
        try:
            seconds = sorted(_pushes(bed, copy, git_server.url("shop"), port))
        finally:
            operator.terminate()
    p95 = seconds[int(len(seconds) * 0.95)]
    return [
        Figure(f"webhook to applied, p50 of {PUSHES}, s", f"{statistics.median(seconds):.2f}"),
        Figure(f"webhook to applied, p95 of {PUSHES}, s", f"{p95:.2f}", f"<= {GOAL_SECONDS:g}", p95 <= GOAL_SECONDS),
    ]


def _pushes(bed: KubernetesBed, copy: WorkingCopy, url: str, port: int) -> Iterator[float]:
    """Each: a commit that touches one function, a delivery, and the seconds until status.appliedRevision has it."""
    root = "/apis/lambda.knative.io/v1alpha1/namespaces/" + NAMESPACE
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hook"},
        "data": {"token": base64.b64encode(TOKEN.encode()).decode()},
    }
    bed.api.apply(f"/api/v1/namespaces/{NAMESPACE}/secrets/hook", secret, manager="bench")
    for number in range(10):
        copy.function(f"fn-{number}")
    commit = copy.push()
    shop = repository("shop", url, interval="1h", webhook={"secretRef": {"name": "hook"}})
    place = f"{root}/functionrepositories/shop"
    bed.api.apply(place, shop, manager="bench")
    _wait_applied(bed, place, commit)
    path = bed.api.get(place)["status"]["webhookPath"]
    body = json.dumps({"ref": "refs/heads/main"}).encode()
    signature = hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    with httpx.Client(trust_env=False) as client:
        for number in range(PUSHES):
            copy.function(f"fn-{number % 10}", code=f"def handler(request):\n    return {number}\n")
            commit = copy.push()
            began = time.perf_counter()
            client.post(f"http://127.0.0.1:{port}{path}", content=body, headers=headers).raise_for_status()
            _wait_applied(bed, place, commit)
            yield time.perf_counter() - began


def _wait_applied(bed: KubernetesBed, place: str, commit: str) -> None:
    deadline = time.monotonic() + 60
    while not str(bed.api.get(place).get("status", {}).get("appliedRevision", "")).endswith(commit):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{commit} was not applied within a minute")
        time.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
