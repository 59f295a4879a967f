"""What a function's server costs: the cold first request and each further one, beside servers that do less.

For each language the same empty answer comes from a bare server of the standard library, from functions-framework alone
as its own command starts it, from our shim on it, and from what one would build instead of it. Servers of a round start
one after the other, so that whatever else the machine does meets them alike; the first round only warms the caches.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from knative_lambda.api.function import Language
from tests.benchmarks.table import Figure
from tests.contract import functions
from tests.contract.functions import Installed, NotInstallable
from tests.testbed import processes

GOAL = 1.3
CONNECTIONS = 8
REQUESTS = 2000
BARE, FRAMEWORK, SHIM, OTHER = "bare server", "functions-framework alone", "shim", "alternative"

HANDLERS = {
    Language.PYTHON: "def handler(request):\n    return 'hello'\n",
    Language.NODEJS: "exports.handler = () => 'hello';\n",
}
PLAIN = {
    Language.PYTHON: HANDLERS[Language.PYTHON],
    Language.NODEJS: "exports.handler = (request, response) => response.send('hello');\n",
}
BARE_CODE = {
    Language.PYTHON: """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
""",
    Language.NODEJS: """
require('node:http').createServer((request, response) => response.end('hello')).listen(process.env.PORT, '127.0.0.1');
""",
}
OTHER_NAME = {
    Language.PYTHON: "http.server with the requests of Werkzeug and the events of the CloudEvents SDK, no Flask",
    Language.NODEJS: "express without the framework",
}
OTHER_CODE = {
    Language.PYTHON: """
import os
from http.server import ThreadingHTTPServer
from cloudevents.http import from_http
from werkzeug.wrappers import Request, Response
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler
class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        environ = self.get_environ() | {"wsgi.input": self.rfile, "wsgi.url_scheme": "http"}
        request = Request(environ)
        answer = Response("hello" if request.path else "")
        self.send_response(answer.status_code)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.get_data())
    def handle(self):
        super(WSGIRequestHandler, self).handle()
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    base_environ = {}
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
""",
    Language.NODEJS: """
const app = require('express')();
app.disable('x-powered-by').set('etag', false);
app.all('/{*splat}', (request, response) => response.send('hello'));
app.listen(process.env.PORT, '127.0.0.1');
""",
}


@dataclass
class Contender:
    """One way to serve the same function."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    cold: list[float] = field(default_factory=list)
    """Milliseconds from the start of the process to the whole first answer."""
    work: list[float] = field(default_factory=list)
    """Milliseconds of processor time of its processes until then: what a busy machine does not change much."""
    warm: list[float] = field(default_factory=list)
    """Milliseconds of a request on a kept connection, one after the other."""
    rate: float = 0
    """Requests per second on eight connections."""
    memory: int = 0
    """MiB of all its processes after that, pages that they share counted once."""


def run(count: int) -> list[Figure]:
    """`count` rounds."""
    figures = []
    for language in functions.LANGUAGES:
        try:
            installed = functions.install(language)
        except NotInstallable as reason:
            figures.append(Figure(f"{language.value}: not measured", str(reason)))
            continue
        with processes.Run.begin("functions") as bed:
            contenders = _contenders(installed, bed)
            _race(contenders, bed, count)
        figures += _told(language, contenders)
    return figures


def _contenders(installed: Installed, bed: processes.Run) -> list[Contender]:
    language, root = installed.language, bed.directory(installed.language.value)
    installed.lay_out(root / "app", {installed.code_file: HANDLERS[language]})
    environment = installed.environment(root, 0)
    programs = {BARE: BARE_CODE[language], OTHER: OTHER_CODE[language], FRAMEWORK: PLAIN[language]}
    files = {
        name: _written(root / name.replace(" ", "-") / installed.code_file, code) for name, code in programs.items()
    }
    if language is Language.NODEJS:
        for file in files.values():
            (file.parent / "node_modules").symlink_to(installed.folder / "node_modules")
    start = [functions.bare_python(), "-s"] if language is Language.PYTHON else ["node"]
    commands = {
        BARE: [*start, str(files[BARE])],
        FRAMEWORK: [*start, *_frameworks(installed, files[FRAMEWORK])],
        SHIM: installed.command(root / "app"),
        OTHER: [*start, str(files[OTHER])],
    }
    return [Contender(name, command, environment) for name, command in commands.items()]


def _frameworks(installed: Installed, file: Path) -> list[str]:
    """As its own manual has it."""
    if installed.language is Language.PYTHON:
        return ["-m", "functions_framework", f"--source={file}", "--target=handler"]
    main = installed.folder / "node_modules/@google-cloud/functions-framework/build/src/main.js"
    return [str(main), f"--source={file.parent}", "--target=handler"]


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def _race(contenders: Sequence[Contender], bed: processes.Run, count: int) -> None:
    for number in range(count + 1):
        for contender in contenders:
            milliseconds, work = _once(contender, bed, measured=number == count)
            if number:
                contender.cold.append(milliseconds)
                contender.work.append(work)


def _once(contender: Contender, bed: processes.Run, *, measured: bool) -> tuple[float, float]:
    """Milliseconds to the first answer, and of processor time; `measured` takes the further requests, too."""
    port = processes.free_port()
    began = time.perf_counter()
    server = bed.start("server", contender.command, env={**contender.environment, "PORT": str(port)})
    try:
        _first(server, port)
        milliseconds = (time.perf_counter() - began) * 1000
        work = sum(_ticks(process) for process in _group(server.pid)) * 1000 / os.sysconf("SC_CLK_TCK")
        if measured:
            contender.warm = _one_by_one(port)
            contender.rate = asyncio.run(_at_once(port))
            contender.memory = _memory(server.pid)
    finally:
        server.kill()
    return milliseconds, work


def _first(server: processes.Server, port: int) -> None:
    while True:
        try:
            _asked(http.client.HTTPConnection("127.0.0.1", port, timeout=20))
        except ConnectionRefusedError:
            if not server.running:
                raise RuntimeError(server.tail()) from None
            time.sleep(0.002)
        else:
            return


def _asked(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/")
    response = connection.getresponse()
    if (response.status, response.read()) != (200, b"hello"):
        raise RuntimeError(f"answered {response.status}")


def _one_by_one(port: int) -> list[float]:
    connection, times = http.client.HTTPConnection("127.0.0.1", port, timeout=20), []
    for _ in range(REQUESTS // 4):
        began = time.perf_counter()
        _asked(connection)
        times.append((time.perf_counter() - began) * 1000)
    connection.close()
    return times


async def _at_once(port: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def worker() -> None:
            for _ in range(REQUESTS // CONNECTIONS):
                async with session.get(f"http://127.0.0.1:{port}/") as answer:
                    await answer.read()

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        return REQUESTS / (time.perf_counter() - began)


def _group(leader: int) -> list[Path]:
    """Folders in /proc of the processes that were started together."""
    return [stat.parent for stat in Path("/proc").glob("[0-9]*/stat") if _fields(stat)[2:3] == [str(leader)]]


def _ticks(process: Path) -> int:
    """Of processor time, in user and system mode, with those of children that ended."""
    return sum(int(field) for field in _fields(process / "stat")[11:15])


def _fields(stat: Path) -> list[str]:
    try:
        return stat.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _memory(leader: int) -> int:
    lines = [line for process in _group(leader) for line in (process / "smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) // 1024


def _told(language: Language, contenders: Sequence[Contender]) -> list[Figure]:
    by_name = {contender.name: contender for contender in contenders}
    ratio = _median(by_name[SHIM].cold) / _median(by_name[BARE].cold)
    title = f"{language.value}: cold first request, shim beside a bare server"
    goal = Figure(title, f"{ratio:.1f}x", f"<= {GOAL}x", ratio <= GOAL)
    return [goal, *(_figure(language, contender, by_name[BARE]) for contender in contenders)]


def _figure(language: Language, contender: Contender, bare: Contender) -> Figure:
    name = f"{contender.name} ({OTHER_NAME[language]})" if contender.name == OTHER else contender.name
    ratio = _median(contender.cold) / _median(bare.cold)
    cold = f"{_median(contender.cold):.0f} ms ({min(contender.cold):.0f} at best, {ratio:.1f}x bare)"
    work = f"{_median(contender.work):.0f} ms of processor"
    further = f"{_median(contender.warm):.2f} ms a further one, {contender.rate:.0f}/s on {CONNECTIONS} connections"
    return Figure(f"{language.value}, {name}", f"{cold}, {work}; {further}; {contender.memory} MiB")


def _median(numbers: Sequence[float]) -> float:
    return statistics.median(numbers)
