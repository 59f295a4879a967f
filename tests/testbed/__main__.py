"""`python -m tests.testbed up|down|status|build`: the bed for a person with kubectl.

`up` starts etcd, kube-apiserver, kube-controller-manager, RabbitMQ and a git server and leaves them running;
`down` ends exactly those. There is at most one such bed per user; beds of test runs are not touched.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from tests.testbed import assets, processes
from tests.testbed.errors import BedError, Unavailable
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.rabbitmq import RabbitMQBed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "up"
_FACTS = "bed.json"
_REPOSITORY = "functions"


def main() -> int:
    """Parse the command line and run one command; returns the exit status."""
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "up": _up,
        "down": _down,
        "status": _status,
        "build": _build,
    }
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument(
        "--standins", action="store_true", help="with up: also play kubelet and Knative, so that functions get Ready"
    )
    asked = parser.parse_args()
    try:
        return commands[asked.command](asked)
    except (Unavailable, BedError) as trouble:
        print(f"testbed: {trouble}", file=sys.stderr)
        return 1


def _up(asked: argparse.Namespace) -> int:
    standing = processes.detached(NAME)
    if standing is not None:
        assets.say("stands already")
        _print_facts(standing)
        return 0
    began = time.monotonic()
    assets.servers()
    with processes.Run.begin(NAME) as run:
        facts = _start_all(run, began, standins=asked.standins)
        (run.folder / _FACTS).write_text(json.dumps(facts, indent=1))
        (run.folder / _FACTS).chmod(0o600)
        folder = run.detach(NAME)
    assets.say(f"up after {time.monotonic() - began:.1f} s; `python -m tests.testbed down` ends it")
    _print_facts(folder)
    return 0


def _start_all(run: processes.Run, began: float, *, standins: bool) -> dict[str, str]:
    def say(what: str) -> None:
        assets.say(f"{time.monotonic() - began:5.1f} s  {what}")

    bed = KubernetesBed.start(run=run, crds=assets.crd_files() + assets.project_crds())
    say(f"Kubernetes {assets.KUBERNETES_VERSION} serves at {bed.url}, {len(bed.crds)} CRDs installed")
    rabbitmq = RabbitMQBed.start(run=run)
    say(f"RabbitMQ serves, management at {rabbitmq.management_url}")
    git = _start_git(run)
    say(f"git server serves {git}")
    if standins:
        _start_standins(run, bed.kubeconfig)
        say("stand-ins play kubelet and Knative")
    bed.api.close()
    return {
        "KUBECONFIG": str(processes.root() / NAME / bed.kubeconfig.relative_to(run.folder)),
        "KUBERNETES_URL": bed.url,
        "RABBITMQ_URL": rabbitmq.amqp_url,
        "RABBITMQ_MANAGEMENT_URL": rabbitmq.management_url,
        "GIT_URL": git,
    }


def _start_git(run: processes.Run) -> str:
    port = processes.free_port()
    command = [sys.executable, "-m", "tests.testbed.gitserver", "--folder", str(run.directory("git"))]
    server = run.start("git", [*command, "--port", str(port), "--repository", _REPOSITORY], cwd=assets.REPOSITORY_ROOT)
    server.await_ready((run.folder / "git" / f"{_REPOSITORY}.git" / "HEAD").exists, timeout=20)
    return f"http://127.0.0.1:{port}/{_REPOSITORY}.git"


def _start_standins(run: processes.Run, kubeconfig: Path) -> None:
    command = [sys.executable, "-m", "tests.testbed.standins", "--kubeconfig", str(kubeconfig)]
    server = run.start("standins", command, cwd=assets.REPOSITORY_ROOT)
    server.await_ready(lambda: "ready" in server.tail(), timeout=20)


def _down(_: argparse.Namespace) -> int:
    began = time.monotonic()
    if processes.end_detached(NAME):
        assets.say(f"down after {time.monotonic() - began:.1f} s")
    else:
        assets.say("nothing was up")
    return 0


def _status(_: argparse.Namespace) -> int:
    folder = processes.detached(NAME)
    if folder is None:
        assets.say("nothing is up")
        return 1
    assets.say(f"up, {len(processes.processes_of(folder))} processes, logs in {folder}")
    _print_facts(folder)
    return 0


def _build(_: argparse.Namespace) -> int:
    began = time.monotonic()
    assets.servers()
    assets.ksvccheck()
    assets.kubectl()
    assets.topology_operator()
    assets.knative_programs()
    assets.manifest_files(*assets.KNATIVE_CRDS, *assets.KNATIVE_CONFIGURATION, *assets.KNATIVE_WEBHOOKS)
    assets.manifest_files(assets.TOPOLOGY_WEBHOOKS)
    assets.say(f"all programs and {len(assets.crd_files())} CRD files are here ({time.monotonic() - began:.1f} s)")
    return 0


def _print_facts(folder: Path) -> None:
    """Lines to paste into a shell, on stdout alone: `eval "$(python -m tests.testbed up)"` works too."""
    for name, value in json.loads((folder / _FACTS).read_text()).items():
        print(f"export {name}={value}")


if __name__ == "__main__":
    sys.exit(main())
