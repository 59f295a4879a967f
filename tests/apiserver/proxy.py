"""A plain-HTTP proxy in front of a real kube-apiserver: it counts requests, and makes trouble when told.

The controller's process gets a kubeconfig that points here, so failures are induced from outside and the product needs
no switch for them.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "content-encoding", "accept-encoding"}
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the proxy saw it."""

    method: str
    resource: str
    """Plural, with the subresource behind a slash: jobs, lambdafunctions/status."""
    namespace: str
    name: str
    watch: bool

    @property
    def is_write(self) -> bool:
        """Writes that matter to a function's life: Leases and Kubernetes Events do not."""
        return self.method in WRITES and self.resource not in ("leases", "events")


def parse_call(method: str, path: str, query: dict[str, str]) -> Call:
    """Takes an API server URL apart."""
    parts = [part for part in path.split("/") if part]
    rest = parts[3:] if parts[:1] == ["apis"] else parts[2:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = rest[0] if rest else ""
    name = rest[1] if len(rest) > 1 else ""
    if len(rest) > 2:
        resource = f"{resource}/{rest[2]}"
    return Call(method, resource, namespace, name, query.get("watch") in ("true", "1", "True"))


@dataclass
class Trouble:
    """What happens to requests that `match`; the first Trouble that matches wins."""

    match: Callable[[Call], bool]
    status: int = 0
    """Answer with this instead of asking the server."""
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0
    """Seconds of silence before anything."""
    lose_answer: bool = False
    """The server does it, the client never hears of it."""
    callback: Callable[[Call], None] | None = None
    """Called after the server answered and before the client hears (kill points)."""
    times: int = 1_000_000


class ApiProxy:
    """Runs in a thread of its own with its own loop; every method may be called from the test."""

    def __init__(self, *, url: str, token: str, ca_file: Path) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._ca_file = ca_file
        self.calls: list[Call] = []
        self.troubles: list[Trouble] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._watches: set[web.StreamResponse] = set()
        self._streams: set[aiohttp.ClientResponse] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="api-proxy", daemon=True)

    def start(self) -> ApiProxy:
        self._thread.start()
        assert self._started.wait(20), "the proxy did not start"
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def kubeconfig(self, path: Path) -> Path:
        """Writes a kubeconfig for this proxy."""
        name = "proxy"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": name,
                    "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": name, "user": {}}],
                    "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                }
            )
        )
        return path

    def counts(self) -> Counter[tuple[str, str]]:
        """(verb, resource) -> number, watches as verb WATCH."""
        return Counter(("WATCH" if call.watch else call.method, call.resource) for call in list(self.calls))

    def trouble(self, trouble: Trouble) -> Trouble:
        self.troubles.append(trouble)
        return trouble

    def calm(self) -> None:
        self.troubles.clear()

    def cut_watches(self) -> None:
        """Breaks every running watch in the middle."""

        def cut() -> None:
            for stream in list(self._streams):
                stream.close()

        self._loop.call_soon_threadsafe(cut)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        context = ssl.create_default_context(cafile=str(self._ca_file))
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Authorization": f"Bearer {self._token}", "Accept-Encoding": "identity"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.5, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._started.set()
        await self._stop.wait()
        for stream in list(self._streams):
            stream.close()
        await runner.cleanup()
        pending = asyncio.all_tasks() - {asyncio.current_task()}  # requests that hang because a test said so
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._session.close()
        await asyncio.sleep(0.1)  # TLS connections close in later turns of the loop

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = parse_call(request.method, request.path, dict(request.query))
        self.calls.append(call)
        trouble = self._trouble_for(call)
        if trouble and trouble.hang:
            await asyncio.sleep(trouble.hang)
        if trouble and trouble.status:
            return web.json_response(
                {"kind": "Status", "status": "Failure", "code": trouble.status, "message": "trouble made by a test"},
                status=trouble.status,
                headers=trouble.headers,
            )
        return await self._forward(request, call, trouble)

    def _trouble_for(self, call: Call) -> Trouble | None:
        for trouble in self.troubles:
            if trouble.times > 0 and trouble.match(call):
                trouble.times -= 1
                return trouble
        return None

    async def _forward(self, request: web.Request, call: Call, trouble: Trouble | None) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        body = await request.read()
        async with self._session.request(
            request.method, self._url + request.raw_path, headers=headers, data=body or None
        ) as answer:
            if call.watch:
                return await self._stream(request, answer)
            content = await answer.read()
        if trouble and trouble.callback:
            trouble.callback(call)
        if trouble and trouble.lose_answer:
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=502)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        return web.Response(status=answer.status, body=content, headers=kept)

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._streams.add(answer)
        try:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        except (aiohttp.ClientError, ConnectionResetError):
            if request.transport is not None:
                request.transport.close()
        finally:
            self._streams.discard(answer)
        return response


def until_quiet(proxy: ApiProxy, *, quiet: float = 3.0, timeout: float = 600.0) -> None:
    """Until no request but watches and Leases came through for a while; tells every half minute how far it got."""
    deadline = time.monotonic() + timeout
    seen, told = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = sum(not call.watch and call.resource != "leases" for call in list(proxy.calls))
        if now == seen:
            return
        seen = now
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"    waiting for rest: {now} requests so far", flush=True)
        time.sleep(quiet)
    raise AssertionError(f"the controller does not come to rest within {timeout:.0f} s: {proxy.counts()}")
