"""Where the bed's programs and CRD files come from.

Programs: `$KUBEBUILDER_ASSETS`, else the project's cache folder, else `go build` of the module in `go/` into
that folder (about seven minutes once on two cores). CRD files: copied once out of the Go module cache, of the
modules that `go/go.mod` and `go/go.sum` pin. Without Go and without a filled cache: Unavailable.
Called by kubernetes, ksvc, fixtures and the command line of the bed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testbed.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

KUBERNETES_VERSION = "v1.36.3"
"""Linked into kube-apiserver: Knative's processes refuse a server whose version they cannot parse."""

SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager")

_MODULE = Path(__file__).with_name("go")
_OWN_CRDS = Path(__file__).with_name("crds")
REPOSITORY_ROOT = Path(__file__).parents[2]
_PROJECT_CRDS = REPOSITORY_ROOT / "chart" / "files" / "crds"
_OLDEST_GO = (1, 26, 5)
_FIRST_GO_REFUSED = (1, 27)
_REPORT_EVERY = 15.0  # seconds between two progress lines


@dataclass(frozen=True, slots=True)
class Servers:
    """Paths of the three server programs."""

    etcd: Path
    apiserver: Path
    controller_manager: Path


@dataclass(frozen=True, slots=True)
class CrdFamily:
    """CRD files of one project: the Go module that holds them, the folder in it, and a pattern of names."""

    name: str
    module: str
    folder: str
    pattern: str = "*.yaml"


CRD_FAMILIES = (
    CrdFamily("serving", "knative.dev/serving", "config/core/300-resources"),
    CrdFamily("eventing", "knative.dev/eventing", "config/core/resources"),
    CrdFamily("topology", "github.com/rabbitmq/messaging-topology-operator", "config/crd/bases"),
    CrdFamily(
        "cluster", "github.com/rabbitmq/cluster-operator/v2", "config/crd/bases", "rabbitmq.com_rabbitmqclusters.yaml"
    ),
)


def servers() -> Servers:
    """The server programs, built when nobody has them. Raises Unavailable."""
    folder = _ready_made() or _ensure("kube", SERVERS)
    return Servers(*(folder / name for name in SERVERS))


def ksvccheck() -> Path:
    """The program that validates Knative Services with Knative's own code. Raises Unavailable."""
    return _ensure("ksvccheck", ("ksvccheck",)) / "ksvccheck"


def kubectl() -> Path:
    """kubectl from PATH, else built. Raises Unavailable."""
    found = shutil.which("kubectl")
    return Path(found) if found else _ensure("kubectl", ("kubectl",)) / "kubectl"


def crd_files() -> list[Path]:
    """CRD files of Serving, Eventing, the topology operator, RabbitmqCluster, and our own two minimal ones."""
    found = [path for family in CRD_FAMILIES for path in _family_files(family)]
    return found + sorted(_OWN_CRDS.glob("*.yaml"))


def project_crds() -> list[Path]:
    """The CRD files of this project as `make generate` wrote them into the chart."""
    return sorted(_PROJECT_CRDS.glob("*.yaml"))


def cache_folder() -> Path:
    """The project's cache folder for the bed, made when absent."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "knative-lambda" / "testbed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def say(text: str) -> None:
    """One progress line of the bed, on stderr."""
    print(f"testbed: {text}", file=sys.stderr, flush=True)


# ---- programs ----


def _ready_made() -> Path | None:
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if not named:
        return None
    missing = [name for name in SERVERS if not (Path(named) / name).is_file()]
    if missing:
        say(f"KUBEBUILDER_ASSETS={named} lacks {', '.join(missing)}; looking further")
        return None
    return Path(named)


def _ensure(package: str, programs: tuple[str, ...]) -> Path:
    """The cache folder that holds these programs, after building `cmd/<package>` if it does not yet."""
    go = _go_version()
    folder = _program_folder(go)
    if _complete(folder, programs):
        return folder
    refuse_unfit(go)
    with locked("build"):
        if not _complete(folder, programs):
            _build(package, programs, folder)
    return folder


def _complete(folder: Path, programs: tuple[str, ...]) -> bool:
    return all((folder / name).exists() for name in programs)


def _program_folder(go: tuple[int, ...] | None) -> Path:
    """Exact for the Go at hand; without Go, any that was built from the same module files."""
    digest = _digest("go.mod", "go.sum", "cmd")
    if go is None:
        built = sorted(cache_folder().glob(f"{digest}-go*"))
        return built[-1] if built else cache_folder() / f"{digest}-none"
    return cache_folder() / f"{digest}-go{'.'.join(map(str, go))}"


def _digest(*names: str) -> str:
    """Sixteen hex digits over the named files and folders of the Go module."""
    total = hashlib.sha256()
    paths = [_MODULE / name for name in names]
    files = sorted(file for path in paths for file in (path.rglob("*.go") if path.is_dir() else [path]))
    for file in files:
        total.update(f"{file.relative_to(_MODULE)}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def _go_version() -> tuple[int, ...] | None:
    if shutil.which("go") is None:
        return None
    answer = _go("env", "GOVERSION").stdout.strip()
    seen = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer)
    return tuple(int(part or 0) for part in seen.groups()) if seen else None


def refuse_unfit(go: tuple[int, ...] | None) -> None:
    """Raise Unavailable for a Go that cannot or should not build the servers; None is no Go at all."""
    text = ".".join(map(str, go or ()))
    if go is None:
        raise Unavailable(
            "no Go on PATH to build etcd and kube-apiserver with: install Go 1.26, "
            f"or set KUBEBUILDER_ASSETS to a folder with {', '.join(SERVERS)}"
        )
    if go >= _FIRST_GO_REFUSED:
        raise Unavailable(
            f"Go {text} is too new for Kubernetes {KUBERNETES_VERSION}, which is built and tested with Go 1.26: "
            "from 1.27 on encoding/json is another implementation, which its OpenAPI code is not made for; "
            "put Go 1.26 first on PATH"
        )
    if go < _OLDEST_GO:
        wanted = ".".join(map(str, _OLDEST_GO))
        raise Unavailable(f"Go {text} is too old for the test bed's module: it needs {wanted} or a later 1.26")


def _go(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["go", *arguments],
        cwd=_MODULE,
        env=_go_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def _go_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"GOFLAGS", "GOWORK"}}
    return {**kept, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _build(package: str, programs: tuple[str, ...], folder: Path) -> None:
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"building {', '.join(programs)} {KUBERNETES_VERSION if package == 'kube' else ''}".rstrip())
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
        binary = Path(scratch) / package
        _compile(package, binary, began)
        for name in programs:
            _place(binary, folder, name)
    say(f"built {', '.join(programs)} in {time.monotonic() - began:.0f} s, kept in {folder}")


def _place(binary: Path, folder: Path, name: str) -> None:
    """Put the program where it is looked for, whole or not at all; the same file under each of its names."""
    fresh = binary.with_name(f"{name}.placed")
    os.link(binary, fresh)
    fresh.replace(folder / name)


def _compile(package: str, binary: Path, began: float) -> None:
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES_VERSION.lstrip("v").split(".")
    told = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    linked = " ".join(["-s", "-w", *(f"-X {version}.{name}={value}" for name, value in told.items())])
    command = [
        "go",
        "build",
        "-v",
        "-buildvcs=false",
        "-trimpath",
        "-ldflags",
        linked,
        "-o",
        str(binary),
        f"./cmd/{package}",
    ]
    total = len(_go("list", "-deps", f"./cmd/{package}").stdout.split())
    with subprocess.Popen(
        command, cwd=_MODULE, env=_go_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as build:
        lines = _follow(build, total, began)
    if build.returncode != 0:
        raise Unavailable(f"go build ./cmd/{package} failed:\n" + "\n".join(lines[-15:]))


def _follow(build: subprocess.Popen[str], total: int, began: float) -> list[str]:
    """Read what `go build -v` prints (one line a compiled package) and report now and then until it ends."""
    lines: list[str] = []
    over = threading.Event()

    def report() -> None:
        while not over.wait(_REPORT_EVERY):
            of = f" of at most {total}" if total else ""
            say(f"{time.monotonic() - began:4.0f} s, {len(lines)} packages compiled{of}")

    reporter = threading.Thread(target=report, name="testbed-build-progress", daemon=True)
    reporter.start()
    assert build.stderr is not None
    try:
        lines.extend(line.rstrip() for line in build.stderr)
    finally:
        over.set()
        reporter.join()
    return lines


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock of that name; says so while another process holds it."""
    with (cache_folder() / f".{name}.lock").open("w") as lock:
        began = time.monotonic()
        while not _try_lock(lock.fileno()):
            waited = time.monotonic() - began
            say(f"another process is at it, waiting ({waited:.0f} s)")
            time.sleep(min(_REPORT_EVERY, 1 + waited))
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# ---- CRD files ----


def _family_files(family: CrdFamily) -> list[Path]:
    folder = cache_folder() / f"crds-{_digest('go.mod', 'go.sum')}" / family.name
    if not folder.is_dir():
        with locked("crds"):
            if not folder.is_dir():
                _copy_family(family, folder)
    return sorted(folder.glob("*.yaml"))


def _copy_family(family: CrdFamily, folder: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable(f"no Go on PATH to fetch the CRD files of {family.module} with: install Go 1.26")
    answer = _go("mod", "download", "-json", family.module)
    told = json.loads(answer.stdout or "{}")
    if answer.returncode != 0 or "Dir" not in told:
        raise Unavailable(f"go mod download {family.module} failed: {told.get('Error') or answer.stderr[-500:]}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".copy-") as scratch:
        copies = Path(scratch) / family.name
        copies.mkdir()
        for path in sorted((Path(told["Dir"]) / family.folder).glob(family.pattern)):
            shutil.copyfile(path, copies / path.name)
        copies.rename(folder)
