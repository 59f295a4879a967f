"""What carries the tier knative: the bridge between namespaces, and the pytest inside one."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.testbed import assets, processes
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.knative import netns, session

if TYPE_CHECKING:
    from pathlib import Path


def test_the_bridge_carries_bytes_both_ways_and_the_end_of_a_connection(tmp_path: Path) -> None:
    port, path = processes.free_port(), tmp_path / "bridge.sock"
    command = [sys.executable, "-m", "tests.testbed.knative.bridge", f"tcp:{port}=unix:{path}"]
    with processes.Run.begin("bridge") as run, socketserver.ThreadingUnixStreamServer(str(path), _Echo) as behind:
        threading.Thread(target=behind.serve_forever, daemon=True).start()
        server = run.start("bridge", command, cwd=assets.REPOSITORY_ROOT)
        server.await_ready(lambda: processes.port_open(port), timeout=20)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
            caller.sendall(b"hello")
            assert caller.recv(100) == b"hello"
            assert caller.recv(100) == b""
        behind.shutdown()


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(self.request.recv(100))


def test_an_inner_pytest_that_dies_is_a_failure_with_its_output(pytestconfig: pytest.Config) -> None:
    try:
        netns.command()
    except Unavailable as gap:
        give_up(gap.reason)
    inner = session.Inner(pytestconfig, ["tests/knative/no_such_file.py::test"])
    try:
        reports = list(inner.reports("tests/knative/no_such_file.py::test"))
    finally:
        inner.stop()
    assert [report.outcome for report in reports] == ["failed"]
    assert "no_such_file.py" in str(reports[0].longrepr)
