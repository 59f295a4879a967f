"""The life of a dead letter: a failing function's event, its queue, a crash of RabbitMQ, and one replay."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.apiserver.conftest import StartOperator
from tests.apiserver.stage import Stage, condition, inline
from tests.listening import Quiet, served
from tests.testbed.rabbitmq import QUEUES_WRITTEN, RabbitMQBed

EVENT = {
    "ce-id": "order-7",
    "ce-source": "/shop",
    "ce-type": "order.placed",
    "ce-specversion": "1.0",
    "ce-knativeerrorcode": "500",
    "content-type": "application/json",
}
FUNCTION: dict[str, Any] = {"triggers": [{"broker": "default", "filter": {"type": "order.placed"}}]}


class Mended:
    """A function that works again: takes events, and keeps them."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.status = 200

    @contextmanager
    def served(self) -> Iterator[str]:
        mended = self

        class Handler(Quiet):
            def do_POST(self) -> None:
                mended.taken.append((self.named(), self.body()))
                self.answer(mended.status)

        with served(Handler) as port:
            yield f"http://127.0.0.1:{port}/"


def environment(**more: str) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        "KN_LAMBDA_HTTP_PORT": str(port),
        "KN_LAMBDA_DEAD_LETTERS": "amqp",
        "KN_LAMBDA_DEAD_LETTER_URL": f"http://127.0.0.1:{port}",
        **more,
    }


def dlq(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "knative_lambda", "dlq", *arguments, "-o", "json"],
        env=os.environ | {"KN_LAMBDA_RABBITMQ": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answered(url: str, *arguments: str) -> Any:
    done = dlq(url, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_queue(stage: Stage, name: str) -> None:
    def ready() -> bool | None:
        fn = stage.function(name)
        return (fn is not None and condition(fn, "DLQReady").get("status") == "True") or None

    stage.wait(ready, what=f"a dead-letter queue for {name}")


def sink_of(stage: Stage, name: str) -> str:
    triggers = stage.wait(lambda: stage.triggers_of(name) or None, what="its Trigger")
    [trigger] = triggers
    delivery = trigger["spec"]["delivery"]
    assert (delivery["retry"], delivery["backoffPolicy"], delivery["backoffDelay"]) == (5, "exponential", "PT1S")
    uri: str = delivery["deadLetterSink"]["uri"]
    return uri


def test_a_dead_letter_survives_a_crash_of_rabbitmq_and_is_replayed_once(
    stage: Stage, start_operator: StartOperator, own_rabbitmq: RabbitMQBed
) -> None:
    rabbitmq = own_rabbitmq.amqp_url
    start_operator(events=rabbitmq, environment=environment())
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    wait_queue(stage, "orders")
    sink, place = sink_of(stage, "orders"), f"{stage.namespace}/orders"
    assert httpx.post(sink, content=b'{"total": 3}', headers=EVENT, trust_env=False).status_code == 202

    time.sleep(QUEUES_WRITTEN)
    own_rabbitmq.kill()
    lost = httpx.post(sink, content=b"{}", headers=EVENT | {"ce-id": "order-8"}, timeout=20, trust_env=False)
    assert lost.status_code == 503
    own_rabbitmq.start_again()

    [shown] = answered(rabbitmq, "show", place)
    assert (shown["headers"]["ce-id"], shown["headers"]["ce-knativeerrorcode"]) == ("order-7", "500")
    mended = Mended()
    with mended.served() as url:
        assert answered(rabbitmq, "replay", place, "--to", url, "--dry-run")["would_send"] == 1
        assert mended.taken == []
        assert answered(rabbitmq, "replay", place, "--to", url)["delivered"] == 1
        assert answered(rabbitmq, "replay", place, "--to", url)["delivered"] == 0
    [(headers, body)] = mended.taken
    assert body == b'{"total": 3}'
    assert (headers["ce-id"], headers["ce-type"]) == ("order-7", "order.placed")


def test_what_the_function_still_refuses_keeps_its_place_and_is_purged_on_demand(
    stage: Stage, start_operator: StartOperator, vhost_url: str
) -> None:
    start_operator(events=vhost_url, environment=environment())
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    wait_queue(stage, "orders")
    sink, place = sink_of(stage, "orders"), f"{stage.namespace}/orders"
    assert httpx.post(sink, content=b"{}", headers=EVENT, trust_env=False).status_code == 202
    broken = Mended()
    broken.status = 500
    with broken.served() as url:
        refused = dlq(vhost_url, "replay", place, "--to", url)
    assert refused.returncode == 1
    assert json.loads(refused.stdout) == {"delivered": 0, "left": 1, "problem": "HTTP 500"}
    stage.delete("lambdafunctions", "orders")
    stage.wait_gone("lambdafunctions", "orders")
    depths = {one["place"]: one["letters"] for one in answered(vhost_url, "list", place, "shop/nobody")}
    assert depths == {place: 1, "shop/nobody": None, "catch-all": 0}
    assert answered(vhost_url, "purge", place, "--yes")["removed"] == 1
    absent = dlq(vhost_url, "show", "shop/nobody")
    assert (absent.returncode, "no dead-letter queue" in absent.stderr) == (2, True)


def test_a_refused_declaration_is_a_condition_and_the_controller_goes_on(
    stage: Stage, start_operator: StartOperator, vhost_url: str, rabbitmq_bed: RabbitMQBed
) -> None:
    vhost = vhost_url.rpartition("/")[2]
    queue = f"knative-lambda-dlq.{stage.namespace}.orders"
    rabbitmq_bed.management("PUT", f"/api/queues/{vhost}/{queue}", {"durable": True})
    operator = start_operator(events=vhost_url, environment=environment())
    stage.apply("lambdafunctions", inline("orders", **FUNCTION))
    stage.apply("lambdafunctions", inline("invoices", **FUNCTION))
    fn = stage.wait_reason("orders", "DLQReady", "DLQRefused")
    assert "406" in condition(fn, "DLQReady")["message"]
    wait_queue(stage, "invoices")
    time.sleep(1)
    assert operator.running
