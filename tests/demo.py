"""`make demo`: from nothing to a git push that becomes a Ready function, told as a timeline.

Starts real servers on loopback (etcd, kube-apiserver, kube-controller-manager, RabbitMQ, git), the controller as a user
starts it, and stand-ins for kubelet and Knative; pushes functions-example-repo; shows what was made and what RabbitMQ
has; and ends everything.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Object, Stage, condition, repository
from tests.apiserver.tap import EventTap
from tests.apiserver.workdir import WorkingCopy
from tests.testbed import assets
from tests.testbed.errors import Unavailable
from tests.testbed.gitserver import GitServer
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.rabbitmq import RabbitMQBed
from tests.testbed.standins import Knative, Kubelet, PodOutcome, ServiceOutcome

NAMESPACE = "shop"
FUNCTION = "hello-python"
EXAMPLES = Path(__file__).parent.parent / "functions-example-repo"
BUILD_SECONDS, START_SECONDS = 1.0, 0.5
"""What the stand-ins take for a build and for bringing a revision up; the rest of the timeline is ours."""

console = Console(highlight=False)


@dataclass
class Timeline:
    """What happened when, in seconds since the push."""

    zero: float = 0.0
    seen: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        self.zero = time.monotonic()

    def note(self, what: str) -> None:
        """The first time that it is seen counts."""
        if what not in self.seen:
            self.seen[what] = time.monotonic() - self.zero
            console.print(f"  [green]{self.seen[what]:6.2f} s[/]  {what}")


@dataclass(frozen=True)
class World:
    """Everything that runs."""

    stage: Stage
    git: GitServer
    tap: EventTap
    folder: Path


@contextmanager
def step(what: str) -> Iterator[None]:
    """Says what is going on and how long it took."""
    console.print(f"[bold]==>[/] {what} …")
    began = time.monotonic()
    yield
    console.print(f"    done in {time.monotonic() - began:.1f} s")


def main() -> int:
    """The exit code."""
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            world = _start(stack)
            _story(world)
    except Unavailable as gap:
        console.print(f"[red]the demo cannot run here:[/] {gap.reason}")
        return 1
    console.print(f"[bold green]demo finished[/] in {time.monotonic() - began:.0f} s; everything it started is ended")
    return 0


def _start(stack: ExitStack) -> World:
    folder = Path(tempfile.mkdtemp(prefix="knative-lambda-demo-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    with step("etcd, kube-apiserver, controller manager: found, or built (once, about seven minutes)"):
        assets.servers()
    with step("starting them, with the CRDs of Knative, of RabbitMQ and our own"):
        bed = stack.enter_context(KubernetesBed.start(crds=[*assets.crd_files(), *assets.project_crds()]))
        bed.create_namespace(NAMESPACE)
    with step("starting RabbitMQ"):
        rabbit = stack.enter_context(RabbitMQBed.shared())
        url = rabbit.create_vhost("demo")
        stack.callback(rabbit.delete_vhost, "demo")
    with step("starting the git server, and stand-ins for kubelet and Knative"):
        git = stack.enter_context(GitServer.start())
        stack.enter_context(Kubelet(kubeconfig=bed.kubeconfig, default=PodOutcome.succeed(delay=BUILD_SECONDS)))
        stack.enter_context(Knative(kubeconfig=bed.kubeconfig, default=ServiceOutcome.ready(delay=START_SECONDS)))
    tap = EventTap(url, queue="demo").open()
    stack.callback(tap.close)
    with step(f"kn-lambda controller --namespace {NAMESPACE}"):
        arguments = ("--namespace", NAMESPACE, "--lease-namespace", NAMESPACE, "--rabbitmq", url)
        operator = Operator(kubeconfig=bed.kubeconfig, folder=folder / "operator", arguments=arguments)
        stack.callback(operator.kill)
        operator.start()
        stack.callback(lambda: operator.terminate() if operator.running else None)
    return World(Stage(bed.api, NAMESPACE), git, tap, folder)


def _story(world: World) -> None:
    copy = WorkingCopy(world.folder / "copy", world.git.create_repository("functions"))
    shutil.copytree(EXAMPLES, copy.folder, dirs_exist_ok=True)
    broker = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "default"}, "spec": {}}
    world.stage.apply("brokers", broker)
    world.stage.apply("functionrepositories", repository("shop", world.git.url("functions"), ref={"branch": "main"}))
    _first_push(world, copy)
    _second_push(world, copy)
    _show_objects(world.stage)
    _show_events(world)


def _first_push(world: World, copy: WorkingCopy) -> None:
    console.print("\n[bold]git push[/] (functions-example-repo)")
    timeline = Timeline()
    over = threading.Event()
    timeline.start()
    copy.push("first functions")
    timeline.note("git push has returned")
    _ask(world.stage, "first")
    watcher = threading.Thread(target=_watch, args=(world.stage, timeline, over), daemon=True)
    watcher.start()
    names = _wait_for_all(world.stage)
    over.set()
    watcher.join()
    timeline.note(f"all {len(names)} functions Ready")


def _second_push(world: World, copy: WorkingCopy) -> None:
    console.print("\n[bold]git push[/] (one line of one function changed)")
    image = _function(world.stage, FUNCTION)["status"]["image"]
    copy.write(f"functions/{FUNCTION}/main.py", 'def handler(request):\n    return "Hello again"\n')
    timeline = Timeline()
    timeline.start()
    copy.push("say hello again")
    timeline.note("git push has returned")
    _ask(world.stage, "second")
    world.stage.wait(lambda: len(world.stage.jobs_of(FUNCTION)) == 2, what="a second build")
    timeline.note(f"a build Job for {FUNCTION}, and for no other function")
    world.stage.wait(lambda: _function(world.stage, FUNCTION)["status"]["image"] != image, what="the new image")
    world.stage.wait_ready(FUNCTION)
    timeline.note(f"{FUNCTION} Ready with the new image")


def _ask(stage: Stage, stamp: str) -> None:
    """What a forge's webhook does: asks for a look at once."""
    annotation = {"metadata": {"annotations": {"lambda.knative.io/reconcile-requested-at": stamp}}}
    stage.patch("functionrepositories", "shop", annotation)


def _watch(stage: Stage, timeline: Timeline, over: threading.Event) -> None:
    """Looks at one function and its children often, and notes what is new."""
    last = False
    while not last:
        last = over.wait(0.02)
        fn = stage.function(FUNCTION)
        if fn is None:
            continue
        timeline.note(f"LambdaFunction {FUNCTION}, pinned to commit {fn['spec']['source']['git']['commit'][:10]}")
        if stage.jobs_of(FUNCTION):
            timeline.note("Kaniko Job")
        for kind, what in (("BuildReady", "image built and pushed"), ("DeployReady", "Knative Service written")):
            if condition(fn, kind).get("status") == "True":
                timeline.note(what)
        if condition(fn, "Ready").get("status") == "True":
            timeline.note(f"{FUNCTION} Ready at {fn['status']['url']}")


def _wait_for_all(stage: Stage) -> list[str]:
    """Every function of the repository, Ready."""

    def applied() -> list[str]:
        repo = stage.api.get(stage.path("functionrepositories", "shop"))
        return [item["name"] for item in repo.get("status", {}).get("inventory", [])]

    names = stage.wait(applied, what="the repository applied")
    for name in names:
        stage.wait_ready(name, timeout=60)
    return names


def _function(stage: Stage, name: str) -> Object:
    found = stage.function(name)
    assert found is not None, f"function {name} is gone"
    return found


def _show_objects(stage: Stage) -> None:
    table = Table(title="\nwhat the push made", title_justify="left")
    for column in ("function", "Ready", "phase", "builds", "Triggers", "image"):
        table.add_column(column)
    for fn in stage.list("lambdafunctions"):
        name = fn["metadata"]["name"]
        ready = condition(fn, "Ready").get("status", "?")
        counts = str(len(stage.jobs_of(name))), str(len(stage.triggers_of(name)))
        table.add_row(name, ready, fn["status"]["phase"], *counts, _digest(fn["status"]["image"]))
    console.print(table)


def _digest(image: str) -> str:
    """The end of an image's name that tells builds apart."""
    return "@" + image.partition("@")[2][:19] if image else ""


def _show_events(world: World) -> None:
    expected = {"lambda.function.created", "lambda.build.completed", "lambda.service.created", "lambda.status.updated"}
    world.stage.wait(
        lambda: expected <= set(world.tap.ids_by_type(FUNCTION, NAMESPACE)), what="the events of the first function"
    )
    table = Table(title=f"\nevents of {FUNCTION}, as read back from RabbitMQ", title_justify="left")
    for column, width in (("time", 12), ("type", 23), ("id", 8), ("what", None)):
        table.add_column(column, min_width=width, no_wrap=True)
    for event in world.tap.of(FUNCTION, NAMESPACE):
        data = event["data"]
        said = data.get("phase") or _digest(data.get("image_uri", "")) or data.get("job_name") or data.get("url", "")
        table.add_row(event["time"][11:23], event["type"], event["id"][:8], str(said or data.get("service_name", "")))
    console.print(table)
    console.print(f"{len(world.tap.read())} events in all\n")


if __name__ == "__main__":
    sys.exit(main())
