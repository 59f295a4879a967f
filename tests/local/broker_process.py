"""A broker of local mode in a process of its own, to be killed. Run by test_broker_kill: STATE PORT.

Its one function appends the id of every event that it takes to a file; of ids that end in 7 it takes none.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import Object
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.events.sqlite_letters import SqliteLetters
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.messaging.broker import LocalBroker
from knative_lambda.resources.trigger import PARALLELISM

ORDERS = Key("shop", "orders")
TAKEN = "taken"
"""File in the state folder with a line for every event that was taken."""
SPEC = {
    kinds.BROKER: ("default", {}),
    kinds.SERVICE: ("orders", {}),
    kinds.TRIGGER: (
        "orders-trigger",
        {
            "broker": "default",
            "subscriber": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "orders"}},
            "delivery": {"retry": 1, "backoffDelay": "PT0.05S"},
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def manifest(kind: Kind, name: str, spec: Object) -> Object:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": "shop", "annotations": {PARALLELISM: "10"}},
        "spec": spec,
    }


async def main(state: Path, port: int) -> None:
    clock = SystemClock()
    cluster = MemoryCluster(clock=clock, kinds=list(SPEC))
    letters = SqliteLetters(state / "letters.db")
    await letters.ensure(ORDERS)

    async def call(_service: Key, headers: Mapping[str, str], _body: bytes) -> Reply:
        await asyncio.sleep(0.01)
        if headers["ce-id"].endswith("7"):
            return Reply(500)
        with (state / TAKEN).open("a") as taken:
            taken.write(headers["ce-id"] + "\n")
        return Reply(202)

    broker = LocalBroker(cluster, call, letters, state / "broker.db", clock=clock)
    for kind, (name, spec) in SPEC.items():
        await cluster.apply(kind, manifest(kind, name, spec))
    url = {"status": {"url": "http://orders.shop.localhost"}}
    await cluster.patch(kinds.SERVICE, ORDERS, url, subresource="status")
    config = uvicorn.Config(Starlette(routes=broker.routes()), host="127.0.0.1", port=port, log_level="warning")
    await asyncio.gather(*(service.run() for service in broker.services()), uvicorn.Server(config).serve())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
