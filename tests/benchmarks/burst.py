"""1,000 inline functions created at once, until every Job exists: our rate over that of a bare client.

Both create functions, Jobs and statuses on the same API server, in turn, in one run. The bare client makes the three
writes that nobody can avoid; our side is a bare creator and the controller as its own process.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from knative_lambda import settings as configuration
from knative_lambda.api import function as functions
from knative_lambda.reconcile.decide import decide
from knative_lambda.reconcile.plan import Create
from knative_lambda.reconcile.settings import ReconcileSettings
from knative_lambda.reconcile.snapshot import Snapshot
from knative_lambda.sources.base import Resolution
from knative_lambda.wiring import adapters
from tests.apiserver.operator import Operator
from tests.benchmarks import bare
from tests.benchmarks.table import Figure
from tests.benchmarks.waiting import ObjectCounter
from tests.testbed import assets
from tests.testbed.assets import project_crds
from tests.testbed.kubernetes import KubernetesBed

ROUNDS = 4


def run(count: int) -> list[Figure]:
    """The figures; a fresh control plane, without controller manager so that only the API server works beside us."""
    with KubernetesBed.start(crds=[*assets.crd_files(), *project_crds()], controllers=False) as bed:
        rounds = [_round(bed, number, count) for number in range(ROUNDS)]
    ratios = [one["ours"] / one["bare"] for one in rounds]
    cpu = statistics.median(one["cpu_ms"] for one in rounds)
    rss = rounds[0]["rss_kib"]
    return [
        Figure("bare client, functions/s", f"{statistics.median(one['bare'] for one in rounds):.0f}"),
        Figure("controller, functions/s to the last Job", f"{statistics.median(one['ours'] for one in rounds):.0f}"),
        _ratio(ratios),
        Figure("the client's CPU per function, ms", f"{statistics.median(one['bare_ms'] for one in rounds):.2f}"),
        Figure("our CPU per function, ms, until all Jobs exist", f"{cpu:.2f}", "<= 2.5", cpu <= 2.5),
        Figure("our CPU per function, ms, until rest", f"{statistics.median(one['rest_ms'] for one in rounds):.2f}"),
        Figure("RSS growth per function, KiB", f"{rss:.1f}"),
    ]


def _ratio(ratios: list[float]) -> Figure:
    middle = statistics.median(ratios)
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return Figure("our rate over the client's", f"{middle:.2f}", ">= 0.8", middle >= 0.8, detail=f"rounds: {told}")


def _round(bed: KubernetesBed, number: int, count: int) -> dict[str, float]:
    names = [f"fn-{index:05}" for index in range(count)]
    theirs, ours = f"bare-{number}", f"ours-{number}"
    for namespace in (theirs, ours):
        bed.create_namespace(namespace)
    if number % 2:  # the server grows older meanwhile: each of us goes first as often as second
        measured = _ours(bed, ours, names)
    used = time.process_time()
    seconds = asyncio.run(_bare(bed, theirs, names))
    used = time.process_time() - used
    if not number % 2:
        measured = _ours(bed, ours, names)
    for namespace in (theirs, ours):
        bed.delete_namespace(namespace)
    print(f"    round {number}: bare {count / seconds:.0f}/s, ours {measured['ours']:.0f}/s", flush=True)
    return {"bare": count / seconds, "bare_ms": used * 1000 / count, **measured}


async def _bare(bed: KubernetesBed, namespace: str, names: list[str]) -> float:
    async with bare.BareClient(bed) as client:
        settings = adapters.reconcile_settings(configuration.load(events="none"))
        return await client.three_writes(namespace, names, lambda name, uid: _job(namespace, name, uid, settings))


def _ours(bed: KubernetesBed, namespace: str, names: list[str]) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="knative-lambda-bench-"))
    arguments = ("--namespace", namespace, "--no-leader-elect", "--events", "none", "--qps", "0")
    operator = Operator(kubeconfig=bed.kubeconfig, folder=folder, arguments=arguments).start()
    try:
        counter = ObjectCounter(bed, bare.JOBS.format(namespace=namespace), len(names))
        counter.start()
        cpu_before, rss_before = operator.usage()
        began = time.perf_counter()
        asyncio.run(_create(bed, namespace, names))
        seconds = counter.wait() - began
        cpu_after, rss_after = operator.usage()
        rested = _rest(operator)
    finally:
        operator.terminate()
    return {
        "ours": len(names) / seconds,
        "cpu_ms": (cpu_after - cpu_before) * 1000 / len(names),
        "rest_ms": (rested - cpu_before) * 1000 / len(names),
        "rss_kib": (rss_after - rss_before) / 1024 / len(names),
    }


async def _create(bed: KubernetesBed, namespace: str, names: list[str]) -> None:
    async with bare.BareClient(bed) as client:
        await client.create_functions(namespace, names)


def _rest(operator: Operator) -> float:
    """CPU seconds at the point where a whole second costs less than 2 % of a core."""
    used, _ = operator.usage()
    for _ in range(120):
        time.sleep(1)
        now, _ = operator.usage()
        if now - used < 0.02:
            return now
        used = now
    raise RuntimeError("the controller did not come to rest within two minutes")


def _job(namespace: str, name: str, uid: str, settings: ReconcileSettings) -> dict[str, Any]:
    """The very Job that the controller would make."""
    raw = bare.function(name)
    raw["metadata"] |= {"namespace": namespace, "uid": uid, "generation": 1}
    fn = functions.parse(raw)
    resolution = Resolution(digest=name, revision="inline")
    plan = decide(Snapshot(fn=fn, now=datetime.now(UTC), resolution=resolution), settings)
    (job,) = (write.manifest for write in plan.writes if isinstance(write, Create))
    return job
