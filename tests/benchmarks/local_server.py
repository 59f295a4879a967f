"""Local mode's router beside the function's own server without it: requests per second and the slow ones, in one run.

`kn-lambda dev` runs the example repository as a person starts it; the same clients ask each function in turn at its own
port and through the listener, so that both meet the same machine.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.table import Figure
from tests.local.dev_process import Dev

EXAMPLES = Path(__file__).parents[2] / "functions-example-repo"
FUNCTIONS = ("hello-python", "hello-nodejs")
CLIENTS = 4
ROUNDS = 5
GOAL = 0.6
"""Of the requests per second that the function's own server answers."""


@dataclass(frozen=True)
class Pace:
    """One round of requests."""

    per_second: float
    slowest: float
    """Seconds; 99 of 100 requests were quicker."""


def run(count: int) -> list[Figure]:
    """`count` requests per round, at each of the two doors."""
    with tempfile.TemporaryDirectory() as folder:
        examples, state = Path(folder) / "repo", Path(folder) / "state"
        shutil.copytree(EXAMPLES, examples)
        with Dev(examples, state) as dev:
            listener = int(dev.url.rpartition(":")[2])
            figures = [figure for name in FUNCTIONS for figure in _beside(dev, state, listener, name, count)]
            dev.process.terminate()
            dev.process.wait(30)
    return figures


def _beside(dev: Dev, state: Path, listener: int, name: str, count: int) -> list[Figure]:
    dev.ready(name)
    own = _port(state, name)
    _pace(own, "localhost", count // 4)
    bare, routed = [], []
    for _ in range(ROUNDS):
        bare.append(_pace(own, "localhost", count))
        routed.append(_pace(listener, f"{name}.default.localhost", count))
    ratios = sorted(through.per_second / alone.per_second for alone, through in zip(bare, routed, strict=True))
    ratio = statistics.median(ratios)
    return [
        Figure(f"{name}: requests/s of its own server", f"{_middle(bare, lambda pace: pace.per_second):.0f}"),
        Figure(f"{name}: requests/s through the router", f"{_middle(routed, lambda pace: pace.per_second):.0f}"),
        Figure(
            f"{name}: through the router, of its own server's",
            f"{ratio:.2f}",
            f">= {GOAL}",
            ratio >= GOAL,
            f"median of {ROUNDS}: {', '.join(f'{each:.2f}' for each in ratios)}",
        ),
        Figure(f"{name}: p99 of its own server", f"{_middle(bare, lambda pace: pace.slowest) * 1000:.1f} ms"),
        Figure(f"{name}: p99 through the router", f"{_middle(routed, lambda pace: pace.slowest) * 1000:.1f} ms"),
    ]


def _middle(paces: list[Pace], of: Callable[[Pace], float]) -> float:
    return statistics.median(map(of, paces))


def _port(state: Path, name: str) -> int:
    """Where the function's first instance listens, from its environment."""
    record = next((state / "processes" / "instances").glob(f"{name}-*/process.json"))
    pid = json.loads(record.read_text())["pid"]
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return int(next(one for one in variables if one.startswith(b"PORT="))[5:])


def _pace(port: int, host: str, count: int) -> Pace:
    """From as many processes as there are clients: one would be slower than what it measures."""
    queue: multiprocessing.Queue[tuple[float, float, list[float]]] = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=_ask, args=(port, host, count // CLIENTS, queue)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    told = [queue.get(timeout=120) for _ in clients]
    for client in clients:
        client.join()
    took = sorted(seconds for _, _, each in told for seconds in each)
    whole = max(end for _, end, _ in told) - min(begin for begin, _, _ in told)
    return Pace(len(took) / whole, took[int(len(took) * 0.99)])


def _ask(port: int, host: str, count: int, queue: multiprocessing.Queue[tuple[float, float, list[float]]]) -> None:
    """POSTs one after the other on one connection; anything but 2xx ends the benchmark."""
    request = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin, took = time.perf_counter(), []
        for _ in range(count):
            asked = time.perf_counter()
            sock.sendall(request.encode())
            _read(sock)
            took.append(time.perf_counter() - asked)
    queue.put((begin, time.perf_counter(), took))


def _read(sock: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(sock)
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(f"answered {received[:300]!r}")
    lines = (line.lower() for line in head.split(b"\r\n"))
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _more(sock)


def _more(sock: socket.socket) -> bytes:
    received = sock.recv(65536)
    if not received:
        raise RuntimeError("the server ended the connection")
    return received
