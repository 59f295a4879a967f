"""Host builds with this machine's own uv, pip and npm: from a build request to a server that answers.

Where an installer or its index cannot be had, its tests are skipped with the reason.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from knative_lambda.api.function import InlineSource, Language, Runtime, Source, SourceType
from knative_lambda.api.meta import Key
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.building import commands
from knative_lambda.local.building.build_log import BuildLog
from knative_lambda.local.building.commands import Terms
from knative_lambda.local.building.images import ImageStore, LocalImage
from knative_lambda.local.building.toolchains.base import Toolchain
from knative_lambda.local.building.toolchains.go import GoToolchain
from knative_lambda.local.building.toolchains.nodejs import NodejsToolchain
from knative_lambda.local.building.toolchains.python import PythonToolchain, find_uv
from knative_lambda.local.building.workshop import BuildFailed, Order, Workshop
from knative_lambda.resources import build_request
from knative_lambda.resources.build_request import BuildRequest
from knative_lambda.runtimes import catalog
from knative_lambda.runtimes.base import DEPENDENCIES, FUNCTION
from knative_lambda.sources.dial import DialPolicy
from tests.testbed import processes

pytestmark = pytest.mark.contract

ENVIRONMENT = commands.cleaned(os.environ)
NOBODY = "http://127.0.0.1:9"
"""A proxy that is not there."""
SECONDS = 150.0


@dataclass(frozen=True)
class Installer:
    """A language with one way to install its dependencies."""

    name: str
    language: Language
    code: str
    reads_dependency: str
    """Code that answers with the version of the package below."""
    dependency: str
    absent: str
    answer: bytes
    """Of that code."""
    beside: Mapping[str, str]
    """A function with a package of its own beside it."""

    def toolchain(self, environment: Mapping[str, str]) -> Toolchain:
        if self.language is Language.NODEJS:
            return NodejsToolchain(environment)
        if self.language is Language.GO:
            return GoToolchain(environment)
        return PythonToolchain(environment, uv=find_uv(ENVIRONMENT) if self.name == "uv" else None)


PYTHON = {
    "language": Language.PYTHON,
    "code": "def handler(event):\n    return 'plain'\n",
    "reads_dependency": "from importlib import metadata\ndef handler(_):\n    return metadata.version('iniconfig')\n",
    "dependency": "iniconfig==2.0.0\n",
    "beside": {
        "main.py": "import near\ndef handler(event):\n    return near.word()\n",
        "requirements.txt": "-e ./packages/near\n",
        "packages/near/near.py": "def word():\n    return 'near'\n",
        "packages/near/pyproject.toml": "[project]\nname = 'near'\nversion = '1'\n",
    },
    "answer": b"2.0.0",
    "absent": "knative-lambda-has-no-such-package==9\n",
}
INSTALLERS = [
    Installer(name="uv", **PYTHON),  # type: ignore[arg-type]
    Installer(name="pip", **PYTHON),  # type: ignore[arg-type]
    Installer(
        name="npm",
        language=Language.NODEJS,
        code="exports.handler = () => 'plain';\n",
        reads_dependency="exports.handler = () => require('ms/package.json').version;\n",
        dependency='{"dependencies": {"ms": "2.0.0"}}',
        beside={
            "index.js": "exports.handler = () => require('near').word();\n",
            "package.json": '{"dependencies": {"near": "file:./packages/near"}}',
            "packages/near/index.js": "exports.word = () => 'near';\n",
            "packages/near/package.json": '{"name": "near", "version": "1.0.0"}',
        },
        answer=b"2.0.0",
        absent='{"dependencies": {"@knative-lambda/has-no-such-package": "9.0.0"}}',
    ),
]

GO = """package function

import "net/http"

func Handler(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("plain")) }
"""
INSTALLERS.append(
    Installer(
        name="go",
        language=Language.GO,
        code=GO,
        reads_dependency=GO.replace('import "net/http"', 'import (\n\t"net/http"\n\t"rsc.io/quote"\n)').replace(
            '"plain"', "quote.Go()"
        ),
        dependency="module hello\n\ngo 1.25\n\nrequire rsc.io/quote v1.5.2\n",
        answer=b"Don't communicate by sharing memory, share memory by communicating.",
        beside={
            "main.go": GO.replace('import "net/http"', 'import (\n\t"net/http"\n\t"example.com/near"\n)').replace(
                '"plain"', "near.Word"
            ),
            "go.mod": "module hello\n\ngo 1.25\n\nrequire example.com/near v0.0.0\n\n"
            "replace example.com/near => ./packages/near\n",
            "packages/near/near.go": 'package near\n\nconst Word = "near"\n',
            "packages/near/go.mod": "module example.com/near\n\ngo 1.25\n",
        },
        absent="module hello\n\ngo 1.25\n\nrequire rsc.io/has-no-such-package v9.0.0+incompatible\n",
    )
)


class Shop:
    """A store with one installer, kept for the module: its first layer is the costly one."""

    def __init__(self, folder: Path, installer: Installer, environment: Mapping[str, str] = ENVIRONMENT) -> None:
        self.folder = folder
        self.installer = installer
        self.store = ImageStore(folder / "images")
        toolchains = {installer.language: installer.toolchain(environment)}
        self.workshop = Workshop(self.store, toolchains, policy=DialPolicy(), logs=folder / "logs", clock=SystemClock())

    def build(self, code: str, dependencies: str = "") -> LocalImage:
        source = Source(type=SourceType.INLINE, inline=InlineSource(code=code, dependencies=dependencies))
        request = BuildRequest(
            namespace="tenant", name="hello", source=source, runtime=Runtime(language=self.installer.language)
        )
        deadline = time.monotonic() + SECONDS
        order = Order(Key("tenant", "job"), build_request.encode(request), deadline=deadline)
        image = self.store.find(self.workshop.build(order))
        assert image is not None
        return image

    def build_files(self, files: Mapping[str, str]) -> LocalImage:
        """Of files as a repository holds them."""
        runtime = Runtime(language=self.installer.language)
        with self.store.workspace() as space, BuildLog(self.folder / "log") as log:
            context = space.folder / "context"
            for part in (FUNCTION, DEPENDENCIES):  # what is beside the requirements comes with them
                write(context / part, {name: text.encode() for name, text in files.items()})
            write(context, catalog.RUNTIMES[runtime.language].context_files(runtime))
            terms = Terms(log, SystemClock(), time.monotonic() + SECONDS)
            digest = space.put(self.installer.toolchain(ENVIRONMENT).plan(context, runtime), context, terms)
        image = self.store.find(digest)
        assert image is not None
        return image

    def layers(self) -> set[str]:
        return {one.name for one in (self.folder / "images" / "layers").iterdir()}


def write(root: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.fixture(scope="module", params=INSTALLERS, ids=lambda installer: installer.name)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    installer: Installer = request.param
    if installer.name == "npm" and not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("node and npm are not installed: functions in Node.js are not built here")
    if installer.name == "go" and not shutil.which("go"):
        pytest.skip("go is not installed: functions in Go are not built here")
    if installer.name == "uv" and find_uv(ENVIRONMENT) is None:
        pytest.skip("uv is not installed: pip installs here")
    shop = Shop(tmp_path_factory.mktemp(installer.name), installer)
    try:
        shop.build(installer.code)
    except BuildFailed as failure:
        pytest.skip(f"the server of {installer.language.value} cannot be installed: {failure.message[-300:]}")
    yield shop
    shop.store.close()


def answer(image: LocalImage, folder: Path) -> bytes:
    """Starts it as the process server does; it must listen on loopback alone."""
    port = processes.free_port()
    environment = {"PATH": ENVIRONMENT["PATH"], "HOME": str(folder), "PORT": str(port), **image.env}
    log = (folder / "log").open("wb")
    with (
        log,
        subprocess.Popen(
            image.command,
            env=environment,
            cwd=image.folder / "function",
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_for_port(process, port, folder / "log")
            assert not is_open(outward_address(), port)
            return asked(port)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while not processes.port_open(port):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def asked(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def outward_address() -> str:
    """An address of this machine that is not loopback; loopback's second one where there is none."""
    found = [one.address for each in psutil.net_if_addrs().values() for one in each if one.family is socket.AF_INET]
    return next((address for address in found if not address.startswith("127.")), "127.0.0.2")


def is_open(address: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(2)
        return sock.connect_ex((address, port)) == 0


def test_function_answers_on_loopback(shop: Shop, tmp_path: Path) -> None:
    assert answer(shop.build(shop.installer.code), tmp_path) == b"plain"


def test_change_of_code_installs_no_dependency_again(shop: Shop, tmp_path: Path) -> None:
    before = shop.layers()
    began = time.monotonic()
    image = shop.build(shop.installer.code.replace("plain", "changed"))
    assert time.monotonic() - began < 20
    assert len(shop.layers() - before) == (1 if shop.installer.language is Language.GO else 0)
    assert answer(image, tmp_path) == b"changed"


def test_function_has_its_own_dependencies_beside_the_servers(shop: Shop, tmp_path: Path) -> None:
    image = shop.build(shop.installer.reads_dependency, shop.installer.dependency)
    assert answer(image, tmp_path) == shop.installer.answer


def test_package_beside_the_function_is_still_found_where_the_layer_ends_up(shop: Shop, tmp_path: Path) -> None:
    assert answer(shop.build_files(shop.installer.beside), tmp_path) == b"near"


def test_dependency_that_does_not_exist_is_said_by_name(shop: Shop) -> None:
    before = shop.layers()
    with pytest.raises(BuildFailed, match="no-such-package") as caught:
        shop.build(shop.installer.code, shop.installer.absent)
    assert caught.value.tool == shop.installer.name
    assert caught.value.retry is False
    assert shop.layers() == before


def test_dependencies_that_cannot_be_read_are_a_plain_failure(shop: Shop) -> None:
    with pytest.raises(BuildFailed) as caught:
        shop.build(shop.installer.code, "{ ]] not a list of dependencies")
    assert caught.value.message != ""


def test_installation_without_a_network_ends_soon_and_says_so(shop: Shop, tmp_path: Path) -> None:
    offline = {
        **ENVIRONMENT, "HTTPS_PROXY": NOBODY, "HTTP_PROXY": NOBODY, "https_proxy": NOBODY, "http_proxy": NOBODY,
        "NO_PROXY": "", "no_proxy": "", "PIP_CACHE_DIR": str(tmp_path / "pip"), "UV_CACHE_DIR": str(tmp_path / "uv"),
        "NPM_CONFIG_CACHE": str(tmp_path / "npm"), "GOMODCACHE": str(tmp_path / "modules"),
    }  # fmt: skip
    offline.pop("PIP_FIND_LINKS", None)
    alone = Shop(tmp_path / "state", shop.installer, offline)
    began = time.monotonic()
    with pytest.raises(BuildFailed) as caught:
        alone.build(shop.installer.code)
    alone.store.close()
    assert time.monotonic() - began < 90
    assert caught.value.tool == shop.installer.name
    assert caught.value.message != ""
    assert list((tmp_path / "state" / "images" / "images").iterdir()) == []


@pytest.mark.parametrize("shop", INSTALLERS[:2], indirect=True, ids=["uv", "pip"])
def test_programs_of_a_virtual_environment_find_their_interpreter(shop: Shop) -> None:
    """They are installed in one place and used in another."""
    image = shop.build("def handler(event):\n    return 1\n")
    flask = Path(image.command[0]).with_name("flask")
    done = subprocess.run([str(flask), "--version"], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "Flask" in done.stdout


@pytest.mark.parametrize("shop", INSTALLERS[:2], indirect=True, ids=["uv", "pip"])
def test_requirements_that_break_the_server_fail_the_build(shop: Shop) -> None:
    with pytest.raises(BuildFailed, match="broke the server's own"):
        shop.build("def handler(event):\n    return 1\n", "cloudevents==0.3.0\n")


# ---- death ----

CONTROLLER = """
import sys, time
from pathlib import Path
from knative_lambda.api.function import Language
from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.building.images import ImageStore
from knative_lambda.local.building.toolchains.python import PythonToolchain
from knative_lambda.local.building.workshop import Order, Workshop
from knative_lambda.api.meta import Key
from knative_lambda.sources.dial import DialPolicy
folder = Path(sys.argv[1])
toolchain = PythonToolchain({"PATH": "/usr/bin:/bin"}, uv=sys.argv[2])
shop = Workshop(ImageStore(folder / "images"), {Language.PYTHON: toolchain}, policy=DialPolicy(),
                logs=folder / "logs", clock=SystemClock())
shop.build(Order(Key("tenant", "job"), sys.argv[3], deadline=time.monotonic() + 60))
"""


def test_controller_that_is_killed_while_it_builds_leaves_no_process_and_no_half_image(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    posing = tmp_path / "uv"
    posing.write_text(f"#!/bin/sh\necho $$ >> {pids}\nsleep 300 &\necho $! >> {pids}\nwait\n")
    posing.chmod(0o755)
    request = build_request.encode(
        BuildRequest(
            namespace="tenant",
            name="hello",
            source=Source(type=SourceType.INLINE, inline=InlineSource(code="x = 1")),
            runtime=Runtime(language=Language.PYTHON),
        )
    )
    environment = {"PATH": ENVIRONMENT["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CONTROLLER, str(tmp_path), str(posing), request]
    with subprocess.Popen(command, env=environment) as controller:
        wait_until(lambda: pids.is_file() and len(pids.read_text().split()) == 2)
        controller.kill()
    installers = [int(pid) for pid in pids.read_text().split()]
    wait_until(lambda: not any(is_running(pid) for pid in installers))
    store = ImageStore(tmp_path / "images")
    left = [path for part in ("building", "layers", "images") for path in (tmp_path / "images" / part).iterdir()]
    store.close()
    assert left == []


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it may go any moment, also between two questions
        return False
