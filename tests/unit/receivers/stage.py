"""A receiver on memory twins, called as a forge calls it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from knative_lambda.api import crd, kinds, meta
from knative_lambda.api.meta import Key
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.gitsync.observed import (
    HOOK_INDEX,
    REPOSITORY_INDEX,
    RepositorySeen,
    by_hook,
    by_repository,
    project_repository,
)
from knative_lambda.kit.clock import ManualClock
from knative_lambda.machinery.store import Store
from knative_lambda.receivers import app
from knative_lambda.receivers.deliveries import Accepted
from knative_lambda.receivers.outcomes import Outcome
from knative_lambda.receivers.reception import World
from knative_lambda.receivers.tokens import Tokens
from knative_lambda.resources.observed import FunctionSeen, project_function
from tests.unit.gitsync.stage import Notices
from tests.unit.receivers.senders import TOKEN, signed

KEY = Key("team", "functions")
SECRET = "webhook"


class Stage:
    """One repository with a webhook; `asked` are the looks that were asked for."""

    def __init__(self, *, clock: Any = None, spec: dict[str, Any] | None = None, status: Any = None) -> None:
        self.clock = clock or ManualClock()
        self.cluster = MemoryCluster(clock=self.clock, definitions=crd.definitions())
        self.notices = Notices()
        self.asked: list[Key] = []
        self.repositories: Store[RepositorySeen] = Store({HOOK_INDEX: by_hook})
        self.functions: Store[FunctionSeen] = Store({REPOSITORY_INDEX: by_repository})
        self.world = World(
            repositories=self.repositories,
            functions=self.functions,
            tokens=Tokens(self.cluster, clock=self.clock),
            ask=self.asked.append,
            recorder=self.notices,
            clock=self.clock,
            accepted=Accepted(self.clock),
        )
        self.app = app.build(self.world)
        self.path = self.repository(**(spec or {"ref": {"branch": "main"}}), status=status)

    def repository(self, *, status: Any = None, deleting: bool = False, **spec: Any) -> str:
        """Puts it into the cache; its webhook path."""
        metadata = {"namespace": KEY.namespace, "name": KEY.name, "uid": "b8b4cb72-8a3c-4b5e-9a55-000000000001"}
        gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
        obj = {
            "apiVersion": meta.API_VERSION,
            "kind": "FunctionRepository",
            "metadata": {**metadata, "generation": 1, **gone},
            "spec": {"url": "https://example.com/f.git", "webhook": {"secretRef": {"name": SECRET}}, **spec},
            "status": status or {},
        }
        seen = project_repository(obj)
        self.repositories.put(KEY, seen)
        assert seen.webhook is not None
        return seen.webhook.path

    def function(self, name: str, **build: Any) -> None:
        """A function of the repository, in the cache."""
        labels = {meta.LABEL_REPOSITORY: KEY.name, meta.LABEL_REPOSITORY_NAMESPACE: KEY.namespace}
        metadata = {"namespace": KEY.namespace, "name": name, "uid": f"uid-{name}", "labels": labels}
        seen = project_function({"metadata": metadata, "spec": {"build": build}})
        self.functions.put(seen.key, seen)

    async def secret(self, token: str | bytes = TOKEN, *, key: str = "token") -> None:
        """Makes or replaces the Secret."""
        raw = token if isinstance(token, bytes) else token.encode()
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": KEY.namespace, "name": SECRET},
            "data": {key: base64.b64encode(raw).decode()},
        }
        await self.cluster.apply(kinds.SECRET, manifest)

    async def post(
        self, body: bytes | AsyncIterator[bytes], headers: dict[str, str], path: str | None = None, method: str = "POST"
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return await client.request(method, path or self.path, content=body, headers=headers)

    async def deliver(self, forge: str, payload: Any, **more: str) -> httpx.Response:
        """A signed delivery of that payload."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self.post(body, signed(forge, body, **more))

    def count(self, forge: str, outcome: Outcome) -> int:
        return self.world.counts.deliveries[forge, outcome.value]
