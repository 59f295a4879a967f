"""A plain HTTPS client for the bed's API server, on the standard library alone.

Independent of the product on purpose: tests check with it what the controller did. Connections are kept and shared.
Called by kubernetes, the tests, and whoever has a `KubernetesBed`.
"""

from __future__ import annotations

import http.client
import json
import queue
import socket
import ssl
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused: `status` is the HTTP code, `reason` and `message` are those of its Status."""

    def __init__(self, status: int, body: bytes, request: str) -> None:
        try:
            told = json.loads(body)
        except ValueError:
            told = {}
        told = told if isinstance(told, dict) else {}
        self.status = status
        self.reason = str(told.get("reason", ""))
        self.message = str(told.get("message", body[:500].decode(errors="replace")))
        super().__init__(f"{request}: {status} {self.reason}: {self.message}")


class ApiClient:
    """Requests with a bearer token to one server. Safe to share between threads; `close` drops the idle ones."""

    def __init__(self, *, url: str, token: str, ca_file: Path, timeout: float = 30) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port, self._timeout = parts.hostname, parts.port or 443, timeout
        self._headers = {"Authorization": f"Bearer {token}", "Accept": JSON}
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._idle: queue.LifoQueue[http.client.HTTPSConnection] = queue.LifoQueue()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """GET an object or a list; raises ApiError."""
        return self.request("GET", path, query=query)

    def items(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """The items of a list."""
        found: list[dict[str, Any]] = self.get(path, **query)["items"]
        return found

    def find(self, path: str) -> dict[str, Any] | None:
        """GET an object, None when it does not exist."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """POST to a collection."""
        return self.request("POST", path, body=manifest, query={"fieldManager": "testbed"})

    def apply(self, path: str, manifest: dict[str, Any], *, manager: str = "testbed") -> dict[str, Any]:
        """Server-side apply, by force, of an object at its own path."""
        return self.request(
            "PATCH", path, body=manifest, content_type=APPLY, query={"fieldManager": manager, "force": "true"}
        )

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        """JSON merge patch, for example of `<object>/status`."""
        return self.request("PATCH", path, body=patch, content_type=MERGE, query={"fieldManager": "testbed"})

    def delete(self, path: str, *, propagation: str = "Background") -> dict[str, Any]:
        """DELETE an object."""
        return self.request("DELETE", path, query={"propagationPolicy": propagation})

    def request(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        content_type: str = JSON,
        query: dict[str, str | int] | None = None,
    ) -> dict[str, Any]:
        """One request; returns the decoded JSON answer, raises ApiError from 400 on."""
        raw = self.raw(method, path, body=body, content_type=content_type, query=query)
        decoded: dict[str, Any] = json.loads(raw)
        return decoded

    def raw(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        content_type: str = JSON,
        query: dict[str, str | int] | None = None,
    ) -> bytes:
        """As `request`, the answer undecoded: /readyz, /metrics and the like are no JSON."""
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        payload = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, **({"Content-Type": content_type} if payload is not None else {})}
        status, answer = self._exchange(method, target, payload, headers)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(status, answer, f"{method} {path}")
        return answer

    def watch(self, path: str, *, seconds: int = 60, **query: str | int) -> Iterator[dict[str, Any]]:
        """The events of a watch on its own connection, until the server ends it after `seconds`."""
        asked = {"watch": "true", "timeoutSeconds": seconds, "allowWatchBookmarks": "true", **query}
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=seconds + 10, context=self._tls)
        try:
            connection.request("GET", f"{path}?{urllib.parse.urlencode(asked)}", headers=self._headers)
            response = connection.getresponse()
            if response.status >= http.HTTPStatus.BAD_REQUEST:
                raise ApiError(response.status, response.read(), f"WATCH {path}")
            for line in response:
                yield json.loads(line)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections that nobody uses at the moment."""
        while (connection := self._idle_connection()) is not None:
            connection.close()

    def _exchange(self, method: str, target: str, payload: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        kept = self._idle_connection()
        if kept is not None:
            try:
                return self._once(kept, method, target, payload, headers)
            except (http.client.HTTPException, ConnectionError, ssl.SSLError):
                self.close()  # the server had dropped it while it was idle, and the others with it
        return self._once(self._connect(), method, target, payload, headers)

    def _once(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        target: str,
        payload: bytes | None,
        headers: dict[str, str],
    ) -> tuple[int, bytes]:
        try:
            connection.request(method, target, body=payload, headers=headers)
            response = connection.getresponse()
            answer = response.status, response.read()
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return answer

    def _idle_connection(self) -> http.client.HTTPSConnection | None:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return None

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
