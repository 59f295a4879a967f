"""What the autoscaler hears from the Pods: a stand-in for queue-proxy that reports no traffic.

Without an answer on that port the autoscaler has no data, and without data it never scales to zero. Called by bed.
"""

from __future__ import annotations

import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.testbed.knative.netns import POD_ADDRESS

_PORT = 9090  # networking.AutoscalingQueueMetricsPort
_UPTIME = 3600.0  # seconds; a Pod younger than the window counts less


def _stat() -> bytes:
    """A `metrics.Stat` in protobuf: field 1 is the Pod's name, 6 its uptime; absent numbers are zero."""
    name = b"played"
    return b"\x0a" + bytes([len(name)]) + name + b"\x31" + struct.pack("<d", _UPTIME)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = _stat()
        self.send_response(200)
        self.send_header("Content-Type", "application/protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A line for every second of every Pod helps nobody."""


class QueueProxy:
    """Serves on the address of every Pod from `start` to `stop`."""

    def __init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Needs the address, and so the namespace of `netns`."""
        self._server = ThreadingHTTPServer((POD_ADDRESS, _PORT), _Handler)
        threading.Thread(target=self._server.serve_forever, name="queue-proxy", daemon=True).start()

    def stop(self) -> None:
        """May be called twice, and before `start`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
