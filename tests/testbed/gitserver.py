"""A smart-HTTP git server on loopback: `git http-backend` behind a small threaded server of Python's library.

It can be pushed to, can ask for a password, can fail on demand, and counts what was asked of it.
Called by fixtures and, as a process (`python -m tests.testbed.gitserver`), by the command line of the bed.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import enum
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import threading
import urllib.parse
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.testbed.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 65536
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class Failure(enum.StrEnum):
    """What the server does instead of serving."""

    NONE = "none"
    UNAVAILABLE = "unavailable"  # 503
    HANG = "hang"  # takes the request and never answers
    REFUSE = "refuse"  # 401 whatever the credentials
    FORBID = "forbid"  # 403
    CUT = "cut"  # closes the connection in the middle of the answer


class GitServer:
    """Repositories in a folder, served at `base_url`. Made by `start`, ended by `stop`.

    `failure` may be set at any time; `requests` counts by (repository, service), where service is
    `info/refs git-upload-pack`, `git-upload-pack`, `git-receive-pack` and so on, failed ones included.
    """

    def __init__(self, *, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.failure = Failure.NONE
        self.requests: Counter[tuple[str, str]] = Counter()
        self.errors: list[str] = []
        self._credentials: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._scratch: str | None = None
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, name="testbed-git", daemon=True)

    @classmethod
    def start(cls, *, folder: Path | None = None, port: int = 0) -> GitServer:
        """Serve the repositories below `folder`, or a folder of its own that `stop` removes."""
        if shutil.which("git") is None:
            raise Unavailable("no git on PATH: install git")
        scratch = None if folder else tempfile.mkdtemp(prefix="knative-lambda-git-")
        server = cls(folder=folder or Path(str(scratch)), port=port)
        server._scratch = scratch
        server._thread.start()
        return server

    def __enter__(self) -> GitServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening, let hanging requests go, remove the folder if it was our own. May be called twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def base_url(self) -> str:
        """Root of all repositories, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def url(self, name: str, *, user: str = "", password: str = "") -> str:
        """Clone URL of a repository, with credentials in it if asked."""
        held = f"{urllib.parse.quote(user)}:{urllib.parse.quote(password)}@" if user else ""
        return f"{self.base_url.replace('http://', f'http://{held}')}/{name}.git"

    def path(self, name: str) -> Path:
        """The bare repository on disk."""
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(f"not a repository name: {name!r}")
        return self.folder / f"{name}.git"

    def create_repository(self, name: str, *, branch: str = "main") -> str:
        """A new empty repository that can be pushed to; returns its URL."""
        path = self.path(name)
        path.mkdir(parents=True)
        _git("init", "--quiet", "--bare", f"--initial-branch={branch}", str(path))
        settings = {
            "http.receivepack": "true",
            "uploadpack.allowAnySHA1InWant": "true",
            "uploadpack.allowFilter": "true",
        }
        for key, value in settings.items():
            _git("-C", str(path), "config", key, value)
        return self.url(name)

    def delete_repository(self, name: str) -> None:
        """Remove a repository; it answers 404 from now on."""
        shutil.rmtree(self.path(name))

    def require(self, name: str, *, user: str, password: str) -> None:
        """Ask for these credentials from now on; again with others, and the old ones have expired."""
        self._credentials[name] = (user, password)

    def count(self, service: str, name: str | None = None) -> int:
        """How often a service was asked for, of one repository or of all."""
        with self._lock:
            return sum(n for (repo, what), n in self.requests.items() if what == service and name in {None, repo})

    def wait_while_hanging(self) -> None:
        """Called by a request that must not be answered: until the failure is another or the server stops."""
        while self.failure is Failure.HANG and not self._stopped.wait(0.05):
            pass

    def note(self, name: str, service: str) -> None:
        """Count one request. Called by the handler."""
        with self._lock:
            self.requests[name, service] += 1

    def admits(self, name: str, authorization: str) -> bool:
        """Whether these credentials open the repository. Called by the handler."""
        wanted = self._credentials.get(name)
        if wanted is None:
            return True
        given = authorization.removeprefix("Basic ").encode()
        return secrets.compare_digest(given, base64.b64encode(":".join(wanted).encode()))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner: GitServer, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news; anything else is kept for the tests to see."""
        import sys

        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            self.owner.errors.append(repr(error))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    wbufsize = _BLOCK
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: `requests` counts."""

    def _serve(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        name, _, rest = urllib.parse.unquote(parts.path).lstrip("/").partition(".git/")
        asked = urllib.parse.parse_qs(parts.query).get("service", [""])[0]
        owner = self.server.owner
        owner.note(name, f"{rest} {asked}".strip())
        if self._fails(owner.failure):
            return
        if not owner.admits(name, self.headers.get("Authorization", "")):
            self._answer(HTTPStatus.UNAUTHORIZED)
            return
        self._bridge(parts.path, parts.query)

    def _fails(self, failure: Failure) -> bool:
        statuses = {
            Failure.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
            Failure.REFUSE: HTTPStatus.UNAUTHORIZED,
            Failure.FORBID: HTTPStatus.FORBIDDEN,
        }
        if failure in statuses:
            self._answer(statuses[failure])
        elif failure is Failure.HANG:
            self.server.owner.wait_while_hanging()
            self.close_connection = True
        elif failure is Failure.CUT:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"001e# service=")
            self.close_connection = True
        return failure is not Failure.NONE

    def _answer(self, status: HTTPStatus) -> None:
        """A short answer; the connection closes, for the body of the request was not read."""
        body = f"{status.phrase}\n".encode()
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="testbed"')
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _bridge(self, path: str, query: str) -> None:
        with subprocess.Popen(
            ["git", "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment(path, query),
        ) as backend:
            assert backend.stdin is not None
            assert backend.stdout is not None
            feeder = threading.Thread(target=self._feed, args=(backend.stdin,), name="testbed-git-feed", daemon=True)
            feeder.start()
            try:
                self._relay(backend.stdout)
            finally:
                feeder.join(timeout=60)
                backend.kill()

    def _environment(self, path: str, query: str) -> dict[str, str]:
        folder = str(self.server.owner.folder)
        told = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": folder,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": folder,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": urllib.parse.unquote(path),
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "testbed",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": self.headers.get("Content-Length", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        return {name: value for name, value in told.items() if value}

    def _feed(self, into: IO[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError), into:
            for block in self._body():
                into.write(block)

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            yield from self._chunks()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            block = self.rfile.read(min(left, _BLOCK))
            if not block:
                return
            left -= len(block)
            yield block

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass

    def _relay(self, answer: IO[bytes]) -> None:
        headers = []
        while line := answer.readline().strip():
            name, _, value = line.decode().partition(":")
            headers.append((name.strip(), value.strip()))
        status = next((value for name, value in headers if name.lower() == "status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name.lower() not in {"status", "content-length"}:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while block := answer.read1(_BLOCK):  # type: ignore[attr-defined]  # a BufferedReader, which IO does not say
            self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def _git(*arguments: str) -> None:
    subprocess.run(
        ["git", *arguments],
        check=True,
        capture_output=True,
        timeout=30,
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
    )


def main() -> None:
    """Serve one folder until a signal; creates the named repositories that do not exist yet."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--repository", action="append", default=[])
    asked = parser.parse_args()
    with GitServer.start(folder=asked.folder, port=asked.port) as server:
        for name in asked.repository:
            if not server.path(name).exists():
                server.create_repository(name)
        threading.Event().wait()


if __name__ == "__main__":
    main()
