"""One suite for the shims of every language: they run here as they run in an image, under their functions-framework.

The servers are installed once into the project's cache folder, from the very lock files that images are built from;
where that cannot be done (no network, no npm) the language is skipped with the reason.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from knative_lambda.api.function import Language, Runtime
from knative_lambda.runtimes import catalog
from tests.testbed import assets, processes

pytestmark = pytest.mark.contract

EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/test", "ce-type": "test.made"}
JSON = {"content-type": "application/json"}

CODE = {
    Language.PYTHON: {
        "event": """
def handler(event):
    if hasattr(event, "method"):
        return {"method": event.method, "body": event.get_data(as_text=True), "path": event.path}
    return {"type": event["type"], "data": event.data, "extra": event.get("extra")}
""",
        "request": "def handler(request):\n    return {'id': request.headers.get('ce-id'), 'path': request.path}\n",
        "reply": """
from cloudevents.http import CloudEvent
def handler(event):
    return CloudEvent({"type": "test.reply", "source": "/me", "id": "r-1"}, {"to": event["id"]})
""",
        "nothing": "def handler(event):\n    return None\n",
        "async": "async def handler(event):\n    return {'id': event['id']}\n",
        "raises": "def handler(event):\n    raise RuntimeError('of the function')\n",
        "decorated": (
            "import functions_framework\n@functions_framework.cloud_event\ndef handler(it):\n    assert it['type']\n"
        ),
        "absent": "def other(event):\n    return 1\n",
        "three": "def handler(event, context, more):\n    return 1\n",
    },
    Language.NODEJS: {
        "event": """
exports.handler = (event) => event.specversion
  ? { type: event.type, data: event.data ?? null, extra: event.extra ?? null }
  : { method: event.method, body: event.rawBody?.toString() ?? '', path: event.path };
""",
        "request": "exports.handler = (req, res) => res.json({ id: req.header('ce-id') ?? null, path: req.path });\n",
        "reply": """
exports.handler = (event) =>
  ({ specversion: '1.0', type: 'test.reply', source: '/me', id: 'r-1', data: { to: event.id } });
""",
        "nothing": "exports.handler = () => undefined;\n",
        "async": "exports.handler = async (event) => ({ id: event.id });\n",
        "raises": "exports.handler = () => { throw new Error('of the function'); };\n",
        "absent": "exports.other = () => 1;\n",
    },
}


@dataclass(frozen=True)
class Installed:
    """A language with its server, ready to run a function."""

    language: Language
    folder: Path

    def lay_out(self, root: Path, files: dict[str, str], handler: str | None = None) -> None:
        """The image's /app, at `root`."""
        runtime = catalog.RUNTIMES[self.language]
        for name, content in runtime.context_files(Runtime(language=self.language, handler=handler)).items():
            _write(root / name, content)
        for name, text in files.items():
            _write(root / "function" / name, text.encode())
        if self.language is Language.NODEJS:
            (root / "runtime" / "node_modules").symlink_to(self.folder / "node_modules")

    def command(self, root: Path) -> list[str]:
        """What the Dockerfile's CMD says, with this machine's interpreter."""
        runtime = root / "runtime"
        if self.language is Language.PYTHON:
            return [_bare_python(), "-s", str(runtime / "knative_lambda_shim.py"), "serve"]
        return ["node", str(runtime / "knative-lambda-shim.cjs")]

    def environment(self, root: Path, port: int) -> dict[str, str]:
        return {
            "PORT": str(port),
            "HOST": "127.0.0.1",
            "HOME": str(root),
            "PYTHONPATH": str(self.folder),
            "NODE_PATH": "",
        }


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _bare_python() -> str:
    """The interpreter below the virtual environment, whose packages are not the image's."""
    base: str = getattr(sys, "_base_executable", sys.executable)
    return base


def _installed(language: Language) -> Installed:
    """From the cache folder, filled on first use; skips when it cannot be."""
    names = {Language.PYTHON: ("requirements.txt",), Language.NODEJS: ("package.json", "package-lock.json")}[language]
    files = catalog.RUNTIMES[language].context_files(Runtime(language=language))
    wanted = {name: files[f"runtime/{name}"] for name in names}
    identity = hashlib.sha256(b"\0".join([sys.version.encode(), *wanted.values()])).hexdigest()[:16]
    folder = assets.cache_folder() / f"{language.value}-runtime-{identity}"
    if not folder.exists():
        _install(language, wanted, folder)
    return Installed(language, folder)


def _install(language: Language, files: dict[str, bytes], folder: Path) -> None:
    if language is Language.NODEJS and (shutil.which("npm") is None or shutil.which("node") is None):
        pytest.skip("node and npm are not installed: the nodejs shim is not tried")
    made = folder.with_name(f"{folder.name}-{os.getpid()}")
    for name, content in files.items():
        _write(made / name, content)
    command = {
        Language.PYTHON: [
            sys.executable, "-m", "uv", "pip", "install", "-q", "--python", _bare_python(), "--require-hashes",
            "--target", str(made), "-r", str(made / "requirements.txt"),
        ],
        Language.NODEJS: [
            "npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(made),
        ],
    }[language]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        shutil.rmtree(made)
        pytest.skip(f"the server of {language.value} cannot be installed: {done.stderr[-300:] if done else 'too slow'}")
    made.rename(folder)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Serving:
    """A running function."""

    server: processes.Server
    port: int

    def ask(
        self, method: str = "POST", path: str = "/", *, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module", params=[Language.PYTHON, Language.NODEJS], ids=lambda language: language.value)
def installed(request: pytest.FixtureRequest) -> Installed:
    return _installed(request.param)


@pytest.fixture(scope="module")
def run() -> Iterator[processes.Run]:
    with processes.Run.begin("shims") as run:
        yield run


Serve = Callable[..., Serving]


@pytest.fixture(scope="module")
def serve(installed: Installed, run: processes.Run) -> Iterator[Serve]:
    """Starts a function by the name of its code, once for the module."""
    started: dict[str, Serving] = {}

    def of(name: str, *, files: dict[str, str] | None = None, handler: str | None = None) -> Serving:
        if name not in started:
            main = catalog.RUNTIMES[installed.language].code_file
            root = run.directory(f"{installed.language.value}-{name}")
            installed.lay_out(root, files or {main: CODE[installed.language][name]}, handler)
            port = processes.free_port()
            server = run.start(root.name, installed.command(root), env=installed.environment(root, port))
            started[name] = Serving(server, port)
            server.await_ready(lambda: processes.port_open(port), timeout=60)
        return started[name]

    yield of
    for serving in started.values():
        serving.server.stop(grace=2)


python_only = pytest.mark.parametrize("installed", [Language.PYTHON], indirect=True)


def test_a_binary_cloudevent_reaches_the_handler(serve: Serve) -> None:
    answer = serve("event").ask(body=b'{"n": 1}', headers=EVENT | JSON | {"ce-extra": "caf%C3%A9"})
    assert answer.json == {"type": "test.made", "data": {"n": 1}, "extra": "café"}


def test_a_structured_cloudevent_reaches_the_handler(serve: Serve) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"n": 2}}).encode()
    answer = serve("event").ask(body=body, headers={"content-type": "application/cloudevents+json; charset=utf-8"})
    assert answer.json == {"type": "t", "data": {"n": 2}, "extra": None}


def test_a_header_of_a_proxy_does_not_make_a_structured_event_binary(serve: Serve) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}).encode()
    answer = serve("event").ask(body=body, headers=EVENT | {"content-type": "application/cloudevents+json"})
    assert answer.json["type"] == "t"


def test_an_event_without_data_reaches_the_handler(serve: Serve) -> None:
    assert serve("event").ask(headers=EVENT).json == {"type": "test.made", "data": None, "extra": None}


def test_a_plain_request_reaches_the_same_handler(serve: Serve) -> None:
    answer = serve("event").ask("PUT", "/some/path", body=b"text", headers={"content-type": "text/plain"})
    assert answer.json == {"method": "PUT", "body": "text", "path": "/some/path"}


@pytest.mark.parametrize("missing", ["ce-id", "ce-source", "ce-type"])
def test_a_broken_event_never_reaches_the_handler(serve: Serve, missing: str) -> None:
    headers = {name: value for name, value in EVENT.items() if name != missing}
    assert serve("event").ask(body=b"{}", headers=headers | JSON).status == 400


def test_a_handler_of_requests_gets_the_request_even_for_an_event(serve: Serve) -> None:
    answer = serve("request").ask(path="/x", body=b"{}", headers=EVENT | JSON)
    assert answer.json == {"id": "1", "path": "/x"}


def test_a_returned_event_is_a_cloudevent_reply(serve: Serve) -> None:
    answer = serve("reply").ask(body=b"{}", headers=EVENT | JSON)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/cloudevents+json")
    assert (answer.json["type"], answer.json["data"]) == ("test.reply", {"to": "1"})


def test_nothing_returned_is_an_empty_answer(serve: Serve) -> None:
    answer = serve("nothing").ask(headers=EVENT)
    assert (answer.status, answer.body) == (204, b"")


def test_an_async_handler_is_awaited(serve: Serve) -> None:
    assert serve("async").ask(headers=EVENT).json == {"id": "1"}


def test_a_failing_handler_is_a_500_that_a_broker_retries(serve: Serve) -> None:
    serving = serve("raises")
    assert serving.ask(headers=EVENT).status == 500
    assert "of the function" in serving.server.log.read_text()
    assert serving.ask("GET", "/health/liveness").status == 200


@pytest.mark.parametrize("path", ["/health/liveness", "/health/readiness"])
def test_health_is_answered_without_the_handler(serve: Serve, path: str) -> None:
    answer = serve("raises").ask("GET", path)
    assert (answer.status, answer.body) == (200, b"ok")


def test_a_handler_that_is_not_there_ends_the_process_with_a_word(installed: Installed, run: processes.Run) -> None:
    main = catalog.RUNTIMES[installed.language].code_file
    root = run.directory(f"{installed.language.value}-absent")
    installed.lay_out(root, {main: CODE[installed.language]["absent"]})
    server = run.start(root.name, installed.command(root), env=installed.environment(root, processes.free_port()))
    assert server.wait(60) != 0
    assert "no function handler" in server.tail()


def test_a_handler_in_a_module_below_finds_its_neighbours(serve: Serve, installed: Installed) -> None:
    files, handler = {
        Language.PYTHON: (
            {"pkg/__init__.py": "", "pkg/app.py": "from pkg import near\ndef run(event):\n    return near.word()\n",
             "pkg/near.py": "def word():\n    return 'near'\n"}, "pkg.app.run"),
        Language.NODEJS: (
            {"src/app.mjs": "import { word } from './near.mjs';\nexport const run = () => word();\n",
             "src/near.mjs": "export const word = () => 'near';\n"}, "src/app.run"),
    }[installed.language]  # fmt: skip
    assert serve("below", files=files, handler=handler).ask(headers=EVENT).body == b"near"


@python_only
def test_decorated_python_takes_events_only(serve: Serve) -> None:
    serving = serve("decorated")
    assert serving.ask(headers=EVENT).status == 204
    assert serving.ask("GET").status == 400


@python_only
def test_python_handler_of_three_parameters_is_refused_at_start(installed: Installed, run: processes.Run) -> None:
    root = run.directory("python-three")
    installed.lay_out(root, {"main.py": CODE[Language.PYTHON]["three"]})
    server = run.start(root.name, installed.command(root), env=installed.environment(root, processes.free_port()))
    assert server.wait(60) != 0
    assert "one argument" in server.tail()
    assert "it has 3" in server.tail()
