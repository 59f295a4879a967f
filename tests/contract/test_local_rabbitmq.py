"""`kn-lambda dev --rabbitmq` with a real RabbitMQ: away at the start, there, and away again."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pika
import pytest

from knative_lambda.events.rabbitmq import EXCHANGE
from tests.local.dev_process import COMMAND, Dev, environment
from tests.testbed import fixtures, processes

rabbitmq_bed = fixtures.rabbitmq_bed
vhost_url = fixtures.vhost_url
uncaptured = fixtures.uncaptured

pytestmark = pytest.mark.contract

QUEUE = "listener"
FUNCTION = """
spec:
  runtime: {language: python}
  triggers:
    - broker: default
      filter: {type: com.example.order.placed}
"""
WORKS = "def handler(event):\n    return {'ok': True}\n"
FAILS = "def handler(event):\n    raise RuntimeError('closed')\n"


class Line:
    """A TCP connection to somewhere else that can be cut; nobody listens while it is."""

    def __init__(self, to: int) -> None:
        self.port = processes.free_port()
        self._to = to
        self._sockets: list[socket.socket] = []
        self._server: socket.socket | None = None

    def join(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._server], daemon=True).start()

    def cut(self) -> None:
        for one in [self._server, *self._sockets]:
            if one is not None:
                with contextlib.suppress(OSError):  # it is not connected any more
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self._server, self._sockets = None, []

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was cut
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was cut
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def line(vhost_url: str) -> Iterator[Line]:
    line = Line(urlsplit(vhost_url).port or 5672)
    yield line
    line.cut()


@contextlib.contextmanager
def listening(url: str) -> Iterator[Callable[[], list[tuple[str, bytes]]]]:
    """A queue for everything; what it gives are routing keys and bodies."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_bind(QUEUE, EXCHANGE, "#")

    def arrived() -> list[tuple[str, bytes]]:
        found = []
        while (got := channel.basic_get(QUEUE, auto_ack=True))[0] is not None:
            found.append((got[0].routing_key, got[2]))
        return found

    yield arrived
    connection.close()


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    folder = tmp_path / "functions" / "hello"
    folder.mkdir(parents=True)
    (folder / "function.yaml").write_text(FUNCTION)
    (folder / "main.py").write_text(WORKS)
    return folder


def test_lifecycle_events_reach_rabbitmq_and_wait_while_it_is_away(
    vhost_url: str, line: Line, functions: Path, tmp_path: Path
) -> None:
    parts = urlsplit(vhost_url)
    assert parts.password
    url = vhost_url.replace(f":{parts.port}/", f":{line.port}/")
    state = tmp_path / "state"
    asked = ("--rabbitmq", url, "--backoff", "0.02", "--log", "debug")
    with listening(vhost_url) as arrived, Dev(functions.parent, state, *asked) as dev:
        away = dev.wait_for("link", connected=False)
        assert "RabbitMQ is away" in away["message"]
        dev.ready("hello")
        assert dev.get("hello").json() == {"ok": True}

        line.join()
        dev.wait_for("link", connected=True)
        saved = dev.now()
        (functions / "main.py").write_text(FAILS)
        dev.ready("hello", after=saved)
        dev.wait_for("event", type="lambda.status.updated", after=saved)
        sent = arrived()
        kinds = [kind for kind, _ in sent]
        assert kinds[:2] == ["lambda.function.created", "lambda.build.started"], "what happened meanwhile comes first"
        assert kinds.count("lambda.build.completed") == 2
        assert json.loads(sent[0][1])["subject"] == "default/hello"

        line.cut()
        assert dev.send("com.example.order.placed", "order-1", {}) == 202
        dev.wait_for("delivery", what="dead", id="order-1")
        dev.wait_for("link", connected=False, after=saved)
        listed = dev.command("dlq", "list", "--state-dir", str(state), "-o", "json")
        assert [(one["place"], one["letters"]) for one in json.loads(listed.stdout)] == [
            ("default/hello", 1),
            ("catch-all", 0),
        ]

        objects = [dev.command(*words, "--state-dir", str(state), "-o", "json").stdout for words in QUESTIONS]
        assert all("hello" in one for one in objects)
        assert dev.stop() == 0
        said = [*objects, *(path.read_text() for path in tmp_path.glob("dev.*")), *(body.decode() for _, body in sent)]
        assert [one for one in said if parts.password in one] == []
        assert files_with(parts.password.encode(), state) == []


QUESTIONS = (("list",), ("describe", "hello"), ("events",))


def files_with(secret: bytes, folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(found) > 100, "what was built is among them"
    return [path for path in found if secret in path.read_bytes()]


@pytest.mark.parametrize("url", ["amqp://me:hunter2@127.0.0.1:99999/", "http://me:hunter2@127.0.0.1/", "hunter2"])
def test_what_is_no_address_of_a_rabbitmq_is_told_in_a_line_without_its_password(
    url: str, functions: Path, tmp_path: Path
) -> None:
    asked = [str(functions.parent), "--state-dir", str(tmp_path / "state"), "--port", "0", "--rabbitmq", url]
    ended = subprocess.run(
        [*COMMAND, "dev", *asked], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "kn-lambda: error: rabbitmq: " in ended.stderr
    assert "amqp://" in ended.stderr
    assert "hunter2" not in ended.stderr
