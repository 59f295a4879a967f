"""A repository of many function directories: the first commit beside bare applies, and a commit that touches one.

Everything runs as in production, but one role at a time: the process under test only syncs repositories, so that what
is timed is git to LambdaFunction and not the builds that follow.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.apiserver.operator import Operator
from tests.apiserver.proxy import ApiProxy
from tests.apiserver.stage import Stage, repository
from tests.apiserver.workdir import WorkingCopy
from tests.benchmarks import bare
from tests.benchmarks.table import Figure
from tests.benchmarks.waiting import ObjectCounter, until_quiet
from tests.testbed import assets
from tests.testbed.gitserver import GitServer
from tests.testbed.kubernetes import KubernetesBed

ROUNDS = 4
TOUCHES = 5
REPOSITORY = "shop"
RECONCILE = "lambda.knative.io/reconcile-requested-at"


def run(count: int) -> list[Figure]:
    """The figures; without controller manager, so that only the API server works beside us."""
    folder = Path(tempfile.mkdtemp(prefix="knative-lambda-bench-"))
    crds = [*assets.crd_files(), *assets.project_crds()]
    with KubernetesBed.start(crds=crds, controllers=False) as bed, GitServer.start() as git:
        proxy = ApiProxy(url=bed.url, token=bed.token, ca_file=bed.ca_file).start()
        try:
            return _measure(bed, git, proxy, folder=folder, count=count)
        finally:
            proxy.stop()


def _measure(bed: KubernetesBed, git: GitServer, proxy: ApiProxy, *, folder: Path, count: int) -> list[Figure]:
    copies = [_all_functions(git, folder, number, count) for number in range(ROUNDS)]
    direct = _operator(bed.kubeconfig, folder / "direct")
    try:
        rounds = list(_rounds(bed, git, count))
    finally:
        direct.terminate()
    counted = _operator(proxy.kubeconfig(folder / "kubeconfig"), folder / "counted")
    try:
        until_quiet(proxy)
        touched, spent = _touch_some(Stage(bed.api, "ours-0"), copies[0], proxy, count)
    finally:
        counted.terminate()
    return [*_first_figures(rounds), *_touch_figures(touched, spent)]


def _all_functions(git: GitServer, folder: Path, number: int, count: int) -> WorkingCopy:
    copy = WorkingCopy(folder / f"copy-{number}", git.create_repository(f"functions-{number}"))
    for index in range(count):
        copy.function(f"fn-{index:05}", code=f"def handler(request):\n    return {index}\n")
    copy.push("all functions")
    return copy


def _rounds(bed: KubernetesBed, git: GitServer, count: int) -> Iterator[tuple[float, float]]:
    """(ours, bare) functions per second. The server grows older meanwhile: each goes first in about half of them."""
    manifests: list[dict[str, Any]] = []
    for number in range(ROUNDS):
        stage = Stage(bed.api, bed.create_namespace(f"ours-{number}"))
        theirs = bed.create_namespace(f"bare-{number}")
        bare_seconds = _bare_applies(bed, theirs, manifests) if number % 2 else 0.0
        seconds = _first_commit(bed, stage, git.url(f"functions-{number}"), count)
        manifests = [_manifest(fn) for fn in stage.list("lambdafunctions")]
        bare_seconds = bare_seconds or _bare_applies(bed, theirs, manifests)
        print(f"    round {number}: bare {count / bare_seconds:.0f}/s, ours {count / seconds:.0f}/s", flush=True)
        yield count / seconds, count / bare_seconds


def _first_commit(bed: KubernetesBed, stage: Stage, url: str, count: int) -> float:
    """Seconds from the repository's creation to its last function: fetch, validation and all writes."""
    counter = ObjectCounter(bed, bare.FUNCTIONS.format(namespace=stage.namespace), count)
    counter.start()
    began = time.perf_counter()
    stage.apply("functionrepositories", repository(REPOSITORY, url, interval="1h"))
    return counter.wait() - began


def _operator(kubeconfig: Path, folder: Path) -> Operator:
    folder.mkdir(parents=True)
    settings = folder / "settings.yaml"
    settings.write_text("controllers: [repositories]\n")
    arguments = ("--no-leader-elect", "--events", "none", "--qps", "0", "--config", str(settings))
    return Operator(kubeconfig=kubeconfig, folder=folder, arguments=arguments).start()


def _bare_applies(bed: KubernetesBed, namespace: str, manifests: list[dict[str, Any]]) -> float:
    """Seconds that a bare client takes to apply the very same manifests elsewhere, with nobody reconciling them."""

    async def apply() -> float:
        async with bare.BareClient(bed) as client:
            return await client.apply_functions(namespace, manifests)

    return asyncio.run(apply())


def _manifest(fn: dict[str, Any]) -> dict[str, Any]:
    kept = {name: fn["metadata"][name] for name in ("name", "labels", "annotations")}
    return {"apiVersion": fn["apiVersion"], "kind": fn["kind"], "metadata": kept, "spec": fn["spec"]}


def _touch_some(stage: Stage, copy: WorkingCopy, proxy: ApiProxy, count: int) -> tuple[list[float], Counter[str]]:
    """Seconds of each commit that touches one function, and the requests of the last one."""
    seconds = []
    spent: Counter[str] = Counter()
    for number in range(TOUCHES):
        name = f"fn-{number * (count // TOUCHES):05}"
        copy.function(name, code=f"def handler(request):\n    return 'touched {number}'\n")
        commit = copy.push(f"touch {name}")
        before = len(proxy.calls)
        began = time.perf_counter()
        _ask(stage, commit)
        _wait_for_commit(stage, name, commit)
        seconds.append(time.perf_counter() - began)
        until_quiet(proxy)
        calls = [call for call in proxy.calls[before:] if not call.watch and call.resource != "events"]
        spent = Counter(f"{call.method} {call.resource} {_whose(call.name, name)}" for call in calls)
    return seconds, spent


def _whose(called: str, name: str) -> str:
    if not called or called.startswith(name):
        return "its own"
    return "the repository" if called == REPOSITORY else "another"


def _wait_for_commit(stage: Stage, name: str, commit: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        fn = stage.function(name)
        if fn is not None and fn["spec"]["source"]["git"]["commit"] == commit:
            return
        time.sleep(0.01)
    raise RuntimeError(f"{name} was not updated to {commit} within 60 s")


def _ask(stage: Stage, stamp: str) -> None:
    stage.patch("functionrepositories", REPOSITORY, {"metadata": {"annotations": {RECONCILE: stamp}}})


def _first_figures(rounds: list[tuple[float, float]]) -> list[Figure]:
    ratios = [ours / theirs for ours, theirs in rounds]
    ratio = statistics.median(ratios)
    told = ", ".join(f"{one:.2f}" for one in ratios)
    return [
        Figure("bare client, applies/s", f"{statistics.median(theirs for _, theirs in rounds):.0f}"),
        Figure("first commit, functions/s", f"{statistics.median(ours for ours, _ in rounds):.0f}"),
        Figure("our rate over the client's", f"{ratio:.2f}", ">= 0.8", ratio >= 0.8, detail=f"rounds: {told}"),
    ]


def _touch_figures(seconds: list[float], spent: Counter[str]) -> list[Figure]:
    median = statistics.median(seconds)
    told = ", ".join(f"{one:.2f}" for one in seconds)
    writes = spent["PATCH lambdafunctions its own"]
    reads = sum(number for what, number in spent.items() if what.startswith("GET"))
    others = sum(number for what, number in spent.items() if what.endswith("another"))
    return [
        Figure(
            "a commit touches one of them, s", f"{median:.2f}", "<= 1", median <= 1, detail=f"of {len(seconds)}: {told}"
        ),
        Figure("writes to that function's spec", str(writes), "1", writes == 1),
        Figure("reads", str(reads), "0", reads == 0),
        Figure("requests for other functions", str(others), "0", others == 0),
    ]
