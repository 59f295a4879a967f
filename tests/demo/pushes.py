"""The first act: two pushes, each told by a signed webhook, become Ready functions."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from tests.apiserver.stage import Object, Stage, condition, repository
from tests.apiserver.workdir import WorkingCopy
from tests.demo import github
from tests.demo.github import GitHub
from tests.demo.told import Timeline, say, step
from tests.demo.world import World

REPOSITORY = "shop"
FUNCTION = "hello-python"
EXAMPLES = Path(__file__).parents[2] / "functions-example-repo"


def play(world: World) -> None:
    """Ends with every function of the example repository Ready."""
    copy = WorkingCopy(world.folder / "copy", world.git.create_repository("functions"))
    hub = _follow(world, copy)
    _first_push(world.stage, copy, hub)
    _second_push(world.stage, copy, hub)


def _follow(world: World, copy: WorkingCopy) -> GitHub:
    """A FunctionRepository with a webhook, once it has seen the repository as it is: without a function."""
    stage = world.stage
    with step("a Broker, and a FunctionRepository that is polled once an hour: only its webhook is fast"):
        broker = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "default"}}
        stage.apply("brokers", broker | {"spec": {}})
        copy.write("README.md", "Functions of the shop.\n")
        commit = copy.push("no functions yet")
        token = github.new_token()
        stage.apply("secrets", github.secret(token))
        webhook = {"secretRef": {"name": github.SECRET}}
        url = world.git.url("functions")
        stage.apply(
            "functionrepositories",
            repository(REPOSITORY, url, ref={"branch": "main"}, interval="1h", webhook=webhook),
        )
        stage.wait(lambda: _status(stage).get("appliedRevision", "").endswith(commit), what="the repository seen")
    path = _status(stage)["webhookPath"]
    say(f"    its status has the webhook's path: {path}")
    return GitHub(f"{world.webhooks}{path}", token, before=commit)


def _first_push(stage: Stage, copy: WorkingCopy, hub: GitHub) -> None:
    say("\n[bold]git push[/] (functions-example-repo)")
    shutil.copytree(EXAMPLES, copy.folder, dirs_exist_ok=True)
    timeline = Timeline()
    _push(copy, hub, timeline, "first functions")
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(stage, timeline, over), daemon=True)
    watcher.start()
    names = _wait_for_all(stage)
    over.set()
    watcher.join()
    timeline.note(f"all {len(names)} functions Ready")


def _second_push(stage: Stage, copy: WorkingCopy, hub: GitHub) -> None:
    say("\n[bold]git push[/] (one line of one function changed)")
    image = _function(stage, FUNCTION)["status"]["image"]
    copy.write(f"functions/{FUNCTION}/main.py", 'def handler(request):\n    return "Hello again"\n')
    timeline = Timeline()
    _push(copy, hub, timeline, "say hello again")
    stage.wait(lambda: len(stage.jobs_of(FUNCTION)) == 2, what="a second build")
    timeline.note(f"a build Job for {FUNCTION}, and for no other function")
    stage.wait(lambda: _function(stage, FUNCTION)["status"]["image"] != image, what="the new image")
    stage.wait_ready(FUNCTION)
    timeline.note(f"{FUNCTION} Ready with the new image")


def _push(copy: WorkingCopy, hub: GitHub, timeline: Timeline, message: str) -> None:
    commit = copy.push(message)
    timeline.note("git push has returned")
    answered = hub.tell(commit)
    assert answered == 202, f"the webhook was answered {answered}"
    timeline.note(f"GitHub's webhook (played here, signed as GitHub signs) answered {answered}")


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
        return [item["name"] for item in _status(stage).get("inventory", [])]

    names = stage.wait(applied, what="the repository applied")
    for name in names:
        stage.wait_ready(name, timeout=60)
    return names


def _status(stage: Stage) -> Object:
    found: Object = stage.api.get(stage.path("functionrepositories", REPOSITORY)).get("status", {})
    return found


def _function(stage: Stage, name: str) -> Object:
    found = stage.function(name)
    assert found is not None, f"function {name} is gone"
    return found
