"""A repository of many function directories: the first commit beside bare applies, and a commit that touches one.

The rounds beside the bare client run `controllers: [repositories]`, so that what is timed is git to LambdaFunction and
not the builds that follow. The first commit is then timed once more with every controller in the process, and so are
the commits that touch one function: what they cost is what a user pays.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knative_lambda.api.meta import ANNOTATION_RECONCILE, GIT_FIELD_MANAGER
from tests.apiserver.operator import Operator
from tests.apiserver.proxy import ApiProxy, until_quiet
from tests.apiserver.stage import Stage, repository
from tests.apiserver.workdir import WorkingCopy
from tests.benchmarks import bare
from tests.benchmarks.table import Figure
from tests.benchmarks.waiting import ObjectCounter
from tests.testbed import assets
from tests.testbed.gitserver import GitServer
from tests.testbed.kubernetes import KubernetesBed

ROUNDS = 4
TOUCHES = 5
REPOSITORY = "shop"
SPEC_WRITE = "PATCH lambdafunctions of the function"


@dataclass(frozen=True, slots=True)
class Round:
    """The same functions, by us and by the bare client; CPU in milliseconds per function."""

    ours: float
    """Functions per second."""
    bare: float
    first: float
    """Seconds from the repository's creation to its first function: fetch, reading and validation of all of them."""
    our_cpu: float
    bare_cpu: float


def run(count: int) -> list[Figure]:
    """The figures; without controller manager, so that only the API server works beside us."""
    crds = [*assets.crd_files(), *assets.project_crds()]
    with (
        tempfile.TemporaryDirectory(prefix="knative-lambda-bench-") as folder,
        KubernetesBed.start(crds=crds, controllers=False) as bed,
        GitServer.start() as git,
    ):
        rounds = _beside_bare(bed, git, folder=Path(folder), count=count)
        live = Stage(bed.api, bed.create_namespace("live"))
        copy = _all_functions(git, Path(folder), "live", count)
        rate = _with_everything(bed, live, git.url("live"), folder=Path(folder), count=count)
        touches = _proxied_touches(bed, live, copy, folder=Path(folder), count=count)
    return [*_first_figures(rounds, rate), *_touch_figures(touches)]


def _beside_bare(bed: KubernetesBed, git: GitServer, *, folder: Path, count: int) -> list[Round]:
    """The controller sees its own namespaces only, and so none of what the client does."""
    for number in range(ROUNDS):
        _all_functions(git, folder, f"ours-{number}", count)
        bed.create_namespace(f"ours-{number}")
    print(f"    {ROUNDS} repositories of {count} functions pushed", flush=True)
    watched = [f"ours-{number}" for number in range(ROUNDS)]
    with _operator(bed.kubeconfig, folder / "direct", watched, roles="repositories") as operator:
        return [_round(bed, operator, git.url(watched[number]), number=number, count=count) for number in range(ROUNDS)]


def _with_everything(bed: KubernetesBed, stage: Stage, url: str, *, folder: Path, count: int) -> float:
    """Functions per second of the first commit while the same process starts their builds."""
    with _operator(bed.kubeconfig, folder / "everything", [stage.namespace]):
        rate = count / _first_commit(bed, stage, url, count)[0]
    print(f"    with every controller: {rate:.0f}/s", flush=True)
    return rate


def _proxied_touches(
    bed: KubernetesBed, stage: Stage, copy: WorkingCopy, *, folder: Path, count: int
) -> list[tuple[float, Counter[str]]]:
    """The controller behind a proxy that counts, once it rests: its Kubernetes Events take the longest."""
    proxy = ApiProxy(url=bed.url, token=bed.token, ca_file=bed.ca_file).start()
    try:
        with _operator(proxy.kubeconfig(folder / "kubeconfig"), folder / "counted", [stage.namespace]):
            until_quiet(proxy)
            return list(_touches(stage, copy, proxy, count))
    finally:
        proxy.stop()


def _all_functions(git: GitServer, folder: Path, name: str, count: int) -> WorkingCopy:
    copy = WorkingCopy(folder / f"copy-{name}", git.create_repository(name))
    for index in range(count):
        copy.function(f"fn-{index:05}", code=f"def handler(request):\n    return {index}\n")
    copy.push("all functions")
    return copy


def _round(bed: KubernetesBed, operator: Operator, url: str, *, number: int, count: int) -> Round:
    """We go first. The server grows older meanwhile, so every other round's client goes before, with what it knows."""
    stage = Stage(bed.api, f"ours-{number}")
    theirs = bed.create_namespace(f"bare-{number}")
    before: tuple[float, float] | None = None
    if number % 2:
        before = _bare_applies(bed, theirs, _manifests(Stage(bed.api, f"ours-{number - 1}")))
    used, _ = operator.usage()
    seconds, first = _first_commit(bed, stage, url, count)
    used = operator.usage()[0] - used
    bare_seconds, bare_used = before or _bare_applies(bed, theirs, _manifests(stage))
    print(f"    round {number}: bare {count / bare_seconds:.0f}/s, ours {count / seconds:.0f}/s", flush=True)
    return Round(
        ours=count / seconds,
        bare=count / bare_seconds,
        first=first,
        our_cpu=used * 1000 / count,
        bare_cpu=bare_used * 1000 / count,
    )


def _first_commit(bed: KubernetesBed, stage: Stage, url: str, count: int) -> tuple[float, float]:
    """Seconds from the repository's creation to its last function, which is fetch, validation and all writes; and to
    its first.
    """
    counter = ObjectCounter(bed, bare.FUNCTIONS.format(namespace=stage.namespace), count)
    counter.start()
    began = time.perf_counter()
    stage.apply("functionrepositories", repository(REPOSITORY, url, interval="1h"))
    return counter.wait() - began, counter.first_at - began


@contextmanager
def _operator(kubeconfig: Path, folder: Path, watched: list[str], *, roles: str = "") -> Iterator[Operator]:
    """With `roles`, only those controllers run."""
    folder.mkdir(parents=True)
    settings = folder / "settings.yaml"
    settings.write_text(f"controllers: [{roles}]\n" if roles else "{}\n")
    spaces = [argument for namespace in watched for argument in ("--namespace", namespace)]
    arguments = (*spaces, "--no-leader-elect", "--events", "none", "--qps", "0", "--config", str(settings))
    operator = Operator(kubeconfig=kubeconfig, folder=folder, arguments=arguments)
    try:
        yield operator.start()
        operator.terminate()
    finally:
        operator.kill()


def _bare_applies(bed: KubernetesBed, namespace: str, manifests: list[dict[str, Any]]) -> tuple[float, float]:
    """Seconds, and CPU seconds, that a bare client takes to apply the very same manifests where nobody reconciles."""

    async def apply() -> float:
        async with bare.BareClient(bed) as client:
            return await client.apply_functions(namespace, manifests)

    used = time.process_time()
    seconds = asyncio.run(apply())
    return seconds, time.process_time() - used


def _manifests(stage: Stage) -> list[dict[str, Any]]:
    return [_manifest(fn) for fn in stage.list("lambdafunctions")]


def _manifest(fn: dict[str, Any]) -> dict[str, Any]:
    """What gitsync sent for this function: the fields that its field manager owns, without the server's defaults."""
    (fields,) = (
        entry["fieldsV1"]
        for entry in fn["metadata"]["managedFields"]
        if entry["manager"] == GIT_FIELD_MANAGER and entry["operation"] == "Apply"
    )
    sent = _owned(fn, fields)
    sent["metadata"]["name"] = fn["metadata"]["name"]
    return {"apiVersion": fn["apiVersion"], "kind": fn["kind"], **sent}


def _owned(value: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Lists and leaves are taken whole."""
    found = {}
    for name, below in ((field[2:], below) for field, below in fields.items() if field.startswith("f:")):
        inner = value[name]
        found[name] = _owned(inner, below) if below and isinstance(inner, dict) else inner
    return found


def _touches(stage: Stage, copy: WorkingCopy, proxy: ApiProxy, count: int) -> Iterator[tuple[float, Counter[str]]]:
    """Of each commit that touches one function: seconds until its spec has the commit, and all requests until rest."""
    for number in range(min(TOUCHES, count)):
        name = f"fn-{number * (count // TOUCHES):05}"
        copy.function(name, code=f"def handler(request):\n    return 'touched {number}'\n")
        commit = copy.push(f"touch {name}")
        before = len(proxy.calls)
        began = time.perf_counter()
        _ask(stage, commit)
        _wait_for_commit(stage, name, commit)
        seconds = time.perf_counter() - began
        until_quiet(proxy)
        calls = [call for call in proxy.calls[before:] if not call.watch and call.resource != "events"]
        spent = Counter(f"{call.method} {call.resource} {_whose(call.name, name)}" for call in calls)
        print(f"    {name} touched: {seconds:.2f} s; {_told(spent)}", flush=True)
        yield seconds, spent


def _whose(called: str, name: str) -> str:
    """A creation and a list name nothing."""
    if called == REPOSITORY:
        return "of the repository"
    return "of the function" if not called or called.startswith(name) else "of another"


def _told(spent: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(spent.items()))


def _wait_for_commit(stage: Stage, name: str, commit: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        fn = stage.function(name)
        if fn is not None and fn["spec"]["source"]["git"]["commit"] == commit:
            return
        time.sleep(0.01)
    raise RuntimeError(f"{name} was not updated to {commit} within 60 s")


def _ask(stage: Stage, stamp: str) -> None:
    stage.patch("functionrepositories", REPOSITORY, {"metadata": {"annotations": {ANNOTATION_RECONCILE: stamp}}})


def _first_figures(rounds: list[Round], with_everything: float) -> list[Figure]:
    ratios = [one.ours / one.bare for one in rounds]
    ratio = statistics.median(ratios)
    told = ", ".join(f"{one:.2f}" for one in ratios)
    return [
        Figure("bare client, applies/s", f"{statistics.median(one.bare for one in rounds):.0f}"),
        Figure("first commit, functions/s, syncing only", f"{statistics.median(one.ours for one in rounds):.0f}"),
        Figure("our rate over the client's", f"{ratio:.2f}", ">= 0.8", ratio >= 0.8, detail=f"rounds: {told}"),
        Figure("seconds until the first of them exists", f"{statistics.median(one.first for one in rounds):.2f}"),
        Figure("the client's CPU per function, ms", f"{statistics.median(one.bare_cpu for one in rounds):.2f}"),
        Figure("our CPU per function, ms", f"{statistics.median(one.our_cpu for one in rounds):.2f}"),
        Figure("first commit, functions/s, builds starting meanwhile", f"{with_everything:.0f}"),
    ]


def _touch_figures(touches: list[tuple[float, Counter[str]]]) -> list[Figure]:
    """Counts are those of the most expensive commit; every controller runs."""
    seconds = [one for one, _ in touches]
    median = statistics.median(seconds)
    told = ", ".join(f"{one:.2f}" for one in seconds)
    spent = Counter[str]()
    for _, counted in touches:
        spent |= counted
    writes = spent.pop(SPEC_WRITE, 0)
    reads = sum(number for what, number in spent.items() if what.startswith("GET"))
    others = sum(number for what, number in spent.items() if what.endswith("of another"))
    return [
        Figure("a commit touches one of them, s", f"{median:.2f}", "<= 1", median <= 1, detail=told),
        Figure("writes to that function's spec", str(writes), "1", writes == 1),
        Figure("reads", str(reads), "0", reads == 0),
        Figure("requests for other functions", str(others), "0", others == 0),
        Figure("what follows for the function and the repository", str(spent.total()), detail=_told(spent)),
    ]
