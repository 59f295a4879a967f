"""A node whose kubelet only hands out logs: the API server fetches them there, over TLS, as from any kubelet."""

from __future__ import annotations

import queue
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.kube import kubeaccess
from tests.testbed.apiclient import ApiClient

Object = dict[str, Any]


class Node:
    """Container logs by (pod, container); `asked` keeps the paths with their queries. Who follows waits for `more`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.logs: dict[tuple[str, str], bytes] = {}
        self.asked: list[str] = []
        self.more: queue.Queue[bytes] = queue.Queue()

    @contextmanager
    def up(self, api: ApiClient, folder: Path) -> Iterator[Node]:
        """Registered as a Node as long as it is up."""
        access = kubeaccess.create(folder, clock=SystemClock())
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(access.certificate, access.key)
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_port}},
        }
        api.merge(f"/api/v1/nodes/{self.name}/status", {"status": status})
        try:
            yield self
        finally:
            api.delete(f"/api/v1/nodes/{self.name}")
            server.shutdown()
            server.server_close()
            thread.join(10)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                node.asked.append(self.path)
                _, kind, _, pod, container = self.path.partition("?")[0].split("/")
                text = node.logs.get((pod, container))
                self.send_response(200 if kind == "containerLogs" and text is not None else 404)
                self.end_headers()
                self.wfile.write(text or b"")
                if "follow=true" in self.path:
                    self.wfile.write(node.more.get(timeout=30))

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        return Handler


def pod(name: str, *, function: str, node: str) -> Object:
    """A pod of a function's Service, as Knative makes them."""
    containers = [{"name": each, "image": "example.com/a:1"} for each in ("function", "queue-proxy")]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"serving.knative.dev/service": function}},
        "spec": {"nodeName": node, "containers": containers},
    }
