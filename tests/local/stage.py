"""A process server with its listener, over a memory cluster, and functions that are small Python programs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from starlette.applications import Starlette

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.cluster.base import Object
from knative_lambda.cluster.memory import MemoryCluster
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.building.images import LocalImage
from knative_lambda.local.serving.server import ProcessServer, ServerOptions
from knative_lambda.machinery.process import serve
from knative_lambda.wiring import http

NAMESPACE = "apps"
QUICK = ServerOptions(
    grace_seconds=30.0, window_seconds=0.2, start_seconds=30.0, wait_seconds=30.0, stop_seconds=1.0, look_seconds=0.1
)

PROGRAM = '''
import http.server, json, os, signal, socketserver, subprocess, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, argument = self.path.partition("?")
        answer = getattr(self, path.strip("/").partition("/")[0] or "word")(argument, body)
        answer = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(int(self.headers.get("x-status") or 200))
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_POST = do_PUT = do_HEAD = do_GET

    def word(self, argument, body):
        return os.environ.get("WORD", "hello").encode()

    def pid(self, argument, body):
        return os.getpid()

    def env(self, argument, body):
        return dict(os.environ) | {"cwd": os.getcwd()}

    def limits(self, argument, body):
        import resource
        names = ("RLIMIT_CORE", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC")
        others = {"user": os.getuid(), "processors": sorted(os.sched_getaffinity(0))}
        return {name: resource.getrlimit(getattr(resource, name))[0] for name in names} | others

    def echo(self, argument, body):
        return {"path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()], "body": body.decode()}

    def size(self, argument, body):
        return len(body)

    def sleep(self, argument, body):
        time.sleep(float(argument))
        return os.getpid()

    def crowd(self, argument, body):
        """Which process, and how many requests it had at once."""
        Handler.here = getattr(Handler, "here", 0) + 1
        here = Handler.here
        time.sleep(float(argument))
        Handler.here -= 1
        return [os.getpid(), here]

    def long(self, argument, body):
        return b"x" * int(argument)

    def exit(self, argument, body):
        os._exit(int(argument))

    def fork(self, argument, body):
        """Children that leave the group, the environment, or both."""
        sleep = ["sleep", "600"]
        children = [
            subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True), subprocess.Popen(sleep, env={}),
            subprocess.Popen(sleep, start_new_session=True, env={}),
        ]
        return [child.pid for child in children]

    def bomb(self, argument, body):
        while True:
            os.fork()

    def eat(self, argument, body):
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 20)))
            time.sleep(float(argument))

    def eat_in_sessions_of_their_own(self, argument, body):
        code = "import os, time; eaten = os.urandom(%d << 20); time.sleep(600)" % int(argument)
        command = [sys.executable, "-I", "-S", "-c", code]
        return [subprocess.Popen(command, start_new_session=True, env={}).pid for _ in range(4)]

    def shout(self, argument, body):
        for _ in range(int(argument)):
            sys.stdout.write("x" * 999_999 + "\\\\n")
        sys.stdout.flush()
        return "said"

    def write(self, argument, body):
        with open(os.path.join(os.environ["TMPDIR"], "big"), "wb") as file:
            file.write(b"0" * int(argument))
        return "written"

    def fill(self, argument, body):
        for number in range(int(argument)):
            with open(os.path.join(os.environ["TMPDIR"], str(number)), "wb") as file:
                file.write(b"0" * (1 << 20))
        return "filled"

    def nest(self, argument, body):
        """Folders so deep that their path is longer than any that the system takes."""
        os.chdir(os.environ["HOME"])
        for _ in range(int(argument)):
            os.mkdir("deeper")
            os.chdir("deeper")
        os.chdir("/")
        return "nested"

    def try_to(self, argument, body):
        """What becomes of an attempt: 'done', or the error."""
        attempts = {
            "write_beside_the_code": lambda: open(os.path.join(os.path.dirname(__file__), "more"), "w"),
            "delete_the_code": lambda: os.remove(__file__),
            "write_into_tmpdir": lambda: open(os.path.join(os.environ["TMPDIR"], "more"), "w"),
            "move_from_home_to_tmpdir": lambda: (
                open(os.path.join(os.environ["HOME"], "moved"), "w"),
                os.rename(os.path.join(os.environ["HOME"], "moved"), os.path.join(os.environ["TMPDIR"], "moved")),
            ),
            "write_into_tmp": lambda: __import__("tempfile").TemporaryFile(dir="/tmp"),
            "write_to_null": lambda: open("/dev/null", "w"),
            "share_a_lock": lambda: __import__("multiprocessing").Lock(),
            "share_memory": lambda: __import__("multiprocessing.shared_memory").shared_memory.SharedMemory(
                create=True, size=100
            ).unlink(),
            "open_a_terminal": lambda: os.openpty(),
            "make_a_file_in_dev": lambda: (
                open(f"/dev/made-{os.getpid()}", "w"), os.remove(f"/dev/made-{os.getpid()}"),
            ),
            "shorten_the_code": lambda: os.truncate(__file__, os.path.getsize(__file__)),
            "write_to_stdout": lambda: open("/dev/stdout", "w"),
            "read_the_servers_environment": lambda: open(f"/proc/{os.getppid()}/environ").read(),
            "end_the_server": lambda: os.kill(os.getppid(), 0),
        }
        try:
            attempts[argument]()
        except OSError as error:
            return str(error)
        return "done"

    def garbage(self, argument, body):
        self.wfile.write(b"this is no HTTP\\\\r\\\\n\\\\r\\\\n")
        self.close_connection = True
        raise ConnectionAbortedError

    def log_message(self, *arguments):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, *arguments):
        pass

print("starting", os.environ.get("WORD", "hello"), flush=True)
time.sleep(float(os.environ.get("SLOW", "0")))
if "STUBBORN" in os.environ:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''.replace("\\\\", "\\")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str]


class Stage:
    """What a test works with."""

    def __init__(self, folder: Path, options: ServerOptions) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.clock = SystemClock()
        self.cluster = MemoryCluster(clock=self.clock, kinds=(kinds.SERVICE,))
        self.images: dict[str, LocalImage] = {}
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.options = replace(options, port=self.sock.getsockname()[1])
        self.remarks: list[str] = []
        self.server = ProcessServer(
            self.cluster,
            self.images.get,
            clock=self.clock,
            state=self.state,
            options=self.options,
            remark=self.remarks.append,
        )
        self.session: aiohttp.ClientSession

    def image(self, code: str = PROGRAM, *, name: str = "program") -> str:
        """The reference of an image that runs the code."""
        folder = self.folder / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.py").write_text(code)
        reference = f"registry/{name}@sha256:{abs(hash(code)):064x}"
        command = (getattr(sys, "_base_executable", sys.executable), "-I", "-S", str(folder / "main.py"))
        self.images[reference] = LocalImage(
            reference.partition("@")[2], folder, command, {"FROM_IMAGE": "yes"}, "python"
        )
        return reference

    async def apply(self, name: str, *, image: str | None = None, **changes: Any) -> None:
        """Writes the Service as the controller does."""
        await self.cluster.apply(kinds.SERVICE, service(name, image or self.image(), **changes))

    async def delete(self, name: str) -> None:
        await self.cluster.delete(kinds.SERVICE, Key(NAMESPACE, name))

    async def read(self, name: str) -> Object:
        return await self.cluster.get(kinds.SERVICE, Key(NAMESPACE, name))

    async def settled(self, name: str, *, status: str = "True", seconds: float = 30.0) -> Object:
        """The Service, once Ready of its newest generation is as said."""

        async def look() -> Object | None:
            found = await self.read(name)
            seen = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
            return found if seen and condition(found, "Ready").get("status") == status else None

        return await until(look, seconds=seconds)

    async def ask(
        self,
        name: str,
        target: str = "/",
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        host: str | None = None,
    ) -> Reply:
        """Through the listener, by Host; `host` to say another one."""
        given = {"host": host or f"{name}.{NAMESPACE}.localhost:{self.options.port}", **(headers or {})}
        url = f"http://127.0.0.1:{self.options.port}{target}"
        async with self.session.request(method, url, data=io.BytesIO(body) if body else None, headers=given) as answer:
            content = await answer.read()
            found = {k.lower(): v for k, v in answer.headers.items()}
            return Reply(answer.status, found, content, answer.headers.getall("set-cookie", []))

    def logs(self, name: str) -> str:
        folder = self.server.log_folder(Key(NAMESPACE, name))
        return "".join(path.read_text(errors="replace") for path in sorted(folder.glob("*")))


@contextlib.asynccontextmanager
async def staged(folder: Path, options: ServerOptions = QUICK) -> AsyncIterator[Stage]:
    """A running server, ended in order after the block; nothing of it may be left then."""
    stage = Stage(folder, options)
    stop = asyncio.Event()
    listener = http.Listener("functions", "127.0.0.1", stage.options.port)
    running = [
        asyncio.create_task(serve([stage.server.services()], stop=stop, clock=SystemClock())),
        asyncio.create_task(http.serve(listener, Starlette(routes=stage.server.routes()), stage.sock)),
    ]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as stage.session:
        try:
            yield stage
        finally:
            running[1].cancel()
            stop.set()
            ends = await asyncio.gather(*running, return_exceptions=True)
    assert ends[0] is None, ends[0]
    assert list((stage.state / "instances").iterdir()) == []


async def until(look: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """What `look` (sync or async) gives, once it gives something."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = look()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"{look.__qualname__} gave nothing within {seconds:g} s"
        await asyncio.sleep(0.02)


async def serves(stage: Stage) -> bool:
    """Whether the function `hello` answers."""
    return (await stage.ask("hello")).status == 200


def landlock_version() -> int:
    """What of Landlock Linux has here, see launcher; 0 where there is none."""
    ask_version = 1
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(444, None, ctypes.c_size_t(0), ctypes.c_uint32(ask_version))
    return max(0, int(version)) if sys.platform.startswith("linux") else 0


def condition(found: Object, kind: str) -> Object:
    conditions = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody waited for does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def service(
    name: str,
    image: str,
    *,
    env: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    memory: str = "256Mi",
    timeout: int = 30,
    variables: list[Object] | None = None,
    hard_limit: int | None = None,
) -> Object:
    """As resources.knative_service writes it."""
    container = {
        "name": "function",
        "image": image,
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()] + (variables or []),
        "ports": [{"name": "http1", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "successThreshold": 1},
        "resources": {"limits": {"memory": memory, "cpu": "500m"}},
    }
    pod: Object = {
        "timeoutSeconds": timeout,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "8Mi"}}],
    }
    if hard_limit is not None:
        pod["containerConcurrency"] = hard_limit
    scaling = {f"autoscaling.knative.dev/{key}": value for key, value in (annotations or {}).items()}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"template": {"metadata": {"annotations": scaling}, "spec": pod}},
    }
