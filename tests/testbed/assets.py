"""Where the bed's programs and CRD files come from.

Programs: `$KUBEBUILDER_ASSETS`, else the project's cache folder, else `go build` of the module in `go/` into
that folder (about seven minutes once on two cores). RabbitMQ's topology operator and Knative's own programs
have modules of their own, `go-topology/` and `go-knative/`: each is built anew only when its own files change.
CRD files and manifests: copied once out of the Go module cache, as `go.mod` and `go.sum` pin them. Without Go
and without a filled cache: Unavailable. Called by kubernetes, topology, knative, ksvc and the command line.
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
class GoModule:
    """One of the bed's own Go modules: its folder, and what its folders in the cache begin with."""

    folder: Path
    prefix: str = ""


BED = GoModule(Path(__file__).with_name("go"))
TOPOLOGY = GoModule(Path(__file__).with_name("go-topology"), "topology-")
KNATIVE = GoModule(Path(__file__).with_name("go-knative"), "knative-")


@dataclass(frozen=True, slots=True)
class CrdFamily:
    """CRD files or manifests of one project: the Go module that holds them, the folder in it, a pattern of names.

    `pinned_by` is our module whose go.mod names the version.
    """

    name: str
    module: str
    folder: str
    pattern: str = "*.yaml"
    pinned_by: GoModule = BED


CRD_FAMILIES = (
    CrdFamily("serving", "knative.dev/serving", "config/core/300-resources"),
    CrdFamily("eventing", "knative.dev/eventing", "config/core/resources"),
    CrdFamily("topology", "github.com/rabbitmq/messaging-topology-operator", "config/crd/bases"),
    CrdFamily(
        "cluster", "github.com/rabbitmq/cluster-operator/v2", "config/crd/bases", "rabbitmq.com_rabbitmqclusters.yaml"
    ),
)


TOPOLOGY_WEBHOOKS = CrdFamily(
    "webhooks",
    "github.com/rabbitmq/messaging-topology-operator",
    "config/webhook",
    "manifests.yaml",
    pinned_by=TOPOLOGY,
)
KNATIVE_CRDS = (
    CrdFamily("networking", "knative.dev/networking", "config", pinned_by=KNATIVE),
    CrdFamily("caching", "knative.dev/caching", "config", pinned_by=KNATIVE),
)
KNATIVE_CONFIGURATION = (
    CrdFamily("networking-configmaps", "knative.dev/networking", "config", "config-*.yaml", pinned_by=KNATIVE),
    CrdFamily("serving-configmaps", "knative.dev/serving", "config/core/configmaps", pinned_by=KNATIVE),
    CrdFamily("eventing-configmaps", "knative.dev/eventing", "config/core/configmaps", pinned_by=KNATIVE),
)
KNATIVE_WEBHOOKS = (
    CrdFamily("serving-webhooks", "knative.dev/serving", "config/core/webhooks", pinned_by=KNATIVE),
    CrdFamily("eventing-webhooks", "knative.dev/eventing", "config/core/webhooks", pinned_by=KNATIVE),
)

KNATIVE_PROGRAMS = {
    "serving-controller": "knative.dev/serving/cmd/controller",
    "serving-webhook": "knative.dev/serving/cmd/webhook",
    "serving-autoscaler": "knative.dev/serving/cmd/autoscaler",
    "eventing-webhook": "knative.dev/eventing/cmd/webhook",
}


def servers() -> Servers:
    """The server programs, built when nobody has them. Raises Unavailable."""
    folder = _ready_made() or _ensure("./cmd/kube", SERVERS)
    return Servers(*(folder / name for name in SERVERS))


def ksvccheck() -> Path:
    """The program that validates Knative Services with Knative's own code. Raises Unavailable."""
    return _ensure("./cmd/ksvccheck", ("ksvccheck",)) / "ksvccheck"


def kubectl() -> Path:
    """kubectl from PATH, else built. Raises Unavailable."""
    found = shutil.which("kubectl")
    return Path(found) if found else _ensure("./cmd/kubectl", ("kubectl",)) / "kubectl"


def topology_operator() -> Path:
    """The manager of RabbitMQ's messaging topology operator. Raises Unavailable."""
    name = "messaging-topology-operator"
    return _ensure("github.com/rabbitmq/messaging-topology-operator/cmd", (name,), TOPOLOGY) / name


def knative_programs() -> dict[str, Path]:
    """Knative's own programs by our names for them (`KNATIVE_PROGRAMS`). Raises Unavailable."""
    return {name: _ensure(package, (name,), KNATIVE) / name for name, package in KNATIVE_PROGRAMS.items()}


def manifest_files(*families: CrdFamily) -> list[Path]:
    """The files of these families, from the cache or copied into it. Raises Unavailable."""
    return [path for family in families for path in _family_files(family)]


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


def _ensure(package: str, programs: tuple[str, ...], module: GoModule = BED) -> Path:
    """The cache folder that holds these programs, after building the module's package if it does not yet."""
    go = _go_version()
    folder = _program_folder(module, go)
    if _complete(folder, programs):
        return folder
    refuse_unfit(go)
    with locked("build"):
        if not _complete(folder, programs):
            _build(module, package, programs, folder)
    return folder


def _complete(folder: Path, programs: tuple[str, ...]) -> bool:
    return all((folder / name).exists() for name in programs)


def _program_folder(module: GoModule, go: tuple[int, ...] | None) -> Path:
    """Exact for the Go at hand; without Go, any that was built from the same module files."""
    digest = module.prefix + _digest(module, "go.mod", "go.sum", "cmd")
    if go is None:
        built = sorted(cache_folder().glob(f"{digest}-go*"))
        return built[-1] if built else cache_folder() / f"{digest}-none"
    return cache_folder() / f"{digest}-go{'.'.join(map(str, go))}"


def _digest(module: GoModule, *names: str) -> str:
    """Sixteen hex digits over the named files and folders of the Go module, as far as it has them."""
    total = hashlib.sha256()
    paths = [path for name in names if (path := module.folder / name).exists()]
    files = sorted(file for path in paths for file in (path.rglob("*.go") if path.is_dir() else [path]))
    for file in files:
        total.update(f"{file.relative_to(module.folder)}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def _go_version() -> tuple[int, ...] | None:
    if shutil.which("go") is None:
        return None
    answer = _go(BED, "env", "GOVERSION").stdout.strip()
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


def _go(module: GoModule, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["go", *arguments],
        cwd=module.folder,
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


def _build(module: GoModule, package: str, programs: tuple[str, ...], folder: Path) -> None:
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"building {', '.join(programs)}{f' {KUBERNETES_VERSION}' if programs == SERVERS else ''}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
        binary = Path(scratch) / "program"
        _compile(module, package, binary, began)
        for name in programs:
            _place(binary, folder, name)
    say(f"built {', '.join(programs)} in {time.monotonic() - began:.0f} s, kept in {folder}")


def _place(binary: Path, folder: Path, name: str) -> None:
    """Put the program where it is looked for, whole or not at all; the same file under each of its names."""
    fresh = binary.with_name(f"{name}.placed")
    os.link(binary, fresh)
    fresh.replace(folder / name)


def _compile(module: GoModule, package: str, binary: Path, began: float) -> None:
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
        package,
    ]
    total = len(_go(module, "list", "-deps", package).stdout.split())
    with subprocess.Popen(
        command, cwd=module.folder, env=_go_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as build:
        lines = _follow(build, total, began)
    if build.returncode != 0:
        raise Unavailable(f"go build {package} failed:\n" + "\n".join(lines[-15:]))


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
    pinned = family.pinned_by.prefix + _digest(family.pinned_by, "go.mod", "go.sum")
    folder = cache_folder() / f"crds-{pinned}" / family.name
    if not folder.is_dir():
        with locked("crds"):
            if not folder.is_dir():
                _copy_family(family, folder)
    return sorted(folder.glob("*.yaml"))


def _copy_family(family: CrdFamily, folder: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable(f"no Go on PATH to fetch the CRD files of {family.module} with: install Go 1.26")
    origin = _module_folder(family)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".copy-") as scratch:
        copies = Path(scratch) / family.name
        copies.mkdir()
        for path in sorted(origin.glob(family.pattern)):
            shutil.copyfile(path, copies / path.name)
        copies.rename(folder)


def _module_folder(family: CrdFamily) -> Path:
    """Where the family's files are in the module cache, after downloading their module if need be."""
    answer = _go(family.pinned_by, "mod", "download", "-json", family.module)
    told = json.loads(answer.stdout or "{}")
    if answer.returncode == 0 and "Dir" in told:
        return Path(told["Dir"]) / family.folder
    # The proxy has the zip of some commits without the data that the command above asks for: as a package, then.
    package = _go(family.pinned_by, "list", "-find", "-f", "{{.Dir}}", f"{family.module}/{family.folder}")
    if package.returncode != 0 or not package.stdout.strip():
        raise Unavailable(f"go mod download {family.module} failed: {told.get('Error') or answer.stderr[-500:]}")
    return Path(package.stdout.strip())
