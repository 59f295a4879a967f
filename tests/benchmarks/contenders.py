"""The servers that race in `functions`: of each language a bare one, the framework alone, our shim, an alternative."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knative_lambda.api.function import Language
from knative_lambda.runtimes import go
from tests.contract import functions
from tests.contract.functions import Installed, NotInstallable
from tests.testbed import processes

BARE, FRAMEWORK, SHIM, OTHER = "bare server", "functions-framework alone", "shim", "alternative"

HANDLERS = {
    Language.PYTHON: "def handler(request):\n    return 'hello'\n",
    Language.NODEJS: "exports.handler = () => 'hello';\n",
    Language.GO: """
package hello

import "net/http"

func Handler(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }
""",
}
PLAIN = {
    Language.PYTHON: HANDLERS[Language.PYTHON],
    Language.NODEJS: "exports.handler = (request, response) => response.send('hello');\n",
    Language.GO: """
package main

import (
	"net/http"
	"os"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
)

func main() {
	functions.HTTP("handler", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) })
	os.Setenv("FUNCTION_TARGET", "handler")
	panic(funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT")))
}
""",
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
    Language.GO: """
package main

import (
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) })
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
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


@dataclass(frozen=True)
class Program:
    """Serves at $PORT."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


def programs(language: Language, bed: processes.Run, shim: Path) -> list[Program]:
    """`shim` is where local mode keeps the function in Go. Raises NotInstallable."""
    if language is Language.GO:
        return _compiled(bed.directory("go"), shim)
    return _interpreted(functions.install(language), bed.directory(language.value))


def _interpreted(installed: Installed, root: Path) -> list[Program]:
    language = installed.language
    installed.lay_out(root / "app", {installed.code_file: HANDLERS[language]})
    codes = {BARE: BARE_CODE[language], OTHER: OTHER_CODE[language], FRAMEWORK: PLAIN[language]}
    files = {name: _written(root / name.replace(" ", "-") / installed.code_file, code) for name, code in codes.items()}
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
    return [Program(name, command, installed.environment(root, 0)) for name, command in commands.items()]


def _frameworks(installed: Installed, file: Path) -> list[str]:
    """As its own manual has it."""
    if installed.language is Language.PYTHON:
        return ["-m", "functions_framework", f"--source={file}", "--target=handler"]
    main = installed.folder / "node_modules/@google-cloud/functions-framework/build/src/main.js"
    return [str(main), f"--source={file.parent}", "--target=handler"]


def _compiled(root: Path, shim: Path) -> list[Program]:
    """The bare server is of Go's own library, which is also what one would build instead."""
    codes = {BARE: BARE_CODE[Language.GO], FRAMEWORK: PLAIN[Language.GO]}
    commands = {name: [str(_built(root / name.replace(" ", "-"), code))] for name, code in codes.items()}
    commands[SHIM] = [str(shim)]
    return [Program(name, command, {"HOST": "127.0.0.1"}) for name, command in commands.items()]


def _built(folder: Path, code: str) -> Path:
    for name in ("go.mod", "go.sum"):
        _written(folder / name, go.SHIPPED.read(name).decode())
    _written(folder / "main.go", code)
    options = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", "server", "."]
    done = subprocess.run(command, cwd=folder, env=options, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotInstallable(done.stderr[-500:])
    return folder / "server"


def installed_languages() -> list[Language]:
    """Python, which runs this, and those whose installer or compiler is on PATH."""
    needed = {Language.NODEJS: "npm", Language.GO: "go"}
    return [Language.PYTHON, *(language for language, program in needed.items() if shutil.which(program))]


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
