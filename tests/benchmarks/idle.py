"""Many Ready functions that nobody touches: what do they cost? And what does a restart of the controller cost?"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.apiserver.operator import Operator
from tests.apiserver.proxy import ApiProxy, until_quiet
from tests.benchmarks import bare
from tests.benchmarks.table import Figure
from tests.testbed import assets
from tests.testbed.kubernetes import KubernetesBed

NAMESPACE = "idle"
SECONDS = 60
BATCH = 2500
REST_SECONDS = 1800
"""At most, until all are Ready: that is the work of the API server, which may share the machine."""


def run(count: int) -> list[Figure]:
    """The figures. Functions name ready images, so that there is nothing to build."""
    crds = [*assets.crd_files(), *assets.project_crds()]
    with (
        tempfile.TemporaryDirectory(prefix="knative-lambda-bench-") as folder,
        KubernetesBed.start(crds=crds, controllers=False) as bed,
        _standins(bed),
    ):
        bed.create_namespace(NAMESPACE)
        proxy = ApiProxy(url=bed.url, token=bed.token, ca_file=bed.ca_file).start()
        try:
            with _operator(proxy, Path(folder)) as operator:
                _make_ready(bed, proxy, count)
                idle = _idle_figures(operator, proxy)
            return [*idle, *_restart_figures(proxy, Path(folder))]
        finally:
            proxy.stop()


@contextmanager
def _standins(bed: KubernetesBed) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.testbed.standins", "--kubeconfig", str(bed.kubeconfig), "--one-write"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            yield
        finally:
            process.terminate()


@contextmanager
def _operator(proxy: ApiProxy, folder: Path) -> Iterator[Operator]:
    """Elects itself as in production: renewing the Lease is part of what idling costs."""
    arguments = ("--namespace", NAMESPACE, "--lease-namespace", NAMESPACE, "--events", "none", "--qps", "0")
    kubeconfig = proxy.kubeconfig(folder / "kubeconfig")
    operator = Operator(kubeconfig=kubeconfig, folder=folder, arguments=arguments)
    try:
        yield operator.start(timeout=120)
        operator.terminate()
    finally:
        operator.kill()


def _make_ready(bed: KubernetesBed, proxy: ApiProxy, count: int) -> None:
    began = time.monotonic()
    asyncio.run(_create(bed, count, began))
    until_quiet(proxy, quiet=5, timeout=REST_SECONDS)
    path = bare.FUNCTIONS.format(namespace=NAMESPACE)
    ready = sum(fn.get("status", {}).get("phase") == "Ready" for fn in bed.api.items(path))
    if ready != count:
        raise RuntimeError(f"only {ready} of {count} functions are Ready")
    print(f"    all of them Ready and at rest after {time.monotonic() - began:.0f} s", flush=True)


async def _create(bed: KubernetesBed, count: int, began: float) -> None:
    async with bare.BareClient(bed) as client:
        for first in range(0, count, BATCH):
            after = min(first + BATCH, count)
            await client.create_objects(NAMESPACE, [_function(index) for index in range(first, after)])
            print(f"    {after} functions created after {time.monotonic() - began:.0f} s", flush=True)


def _function(index: int) -> dict[str, Any]:
    image = {"uri": f"registry.example.com/idle/fn@sha256:{index:064x}"}
    spec = {"source": {"type": "image", "image": image}}
    return bare.function(f"fn-{index:05}") | {"spec": spec}


def _idle_figures(operator: Operator, proxy: ApiProxy) -> list[Figure]:
    before, (cpu_before, _) = len(proxy.calls), operator.usage()
    time.sleep(SECONDS)
    cpu_after, rss = operator.usage()
    asked = [call for call in proxy.calls[before:] if not call.watch and call.resource != "leases"]
    percent = (cpu_after - cpu_before) / SECONDS * 100
    mib = rss / 2**20
    return [
        Figure(f"requests in {SECONDS} s beside watches and Lease", str(len(asked)), "0", not asked),
        Figure("CPU, % of a core", f"{percent:.2f}", "< 1", percent < 1),
        Figure("RSS, MiB", f"{mib:.0f}", "<= 400", mib <= 400),
    ]


def _restart_figures(proxy: ApiProxy, folder: Path) -> list[Figure]:
    before = len(proxy.calls)
    began = time.monotonic()
    with _operator(proxy, folder) as operator:
        ready = time.monotonic() - began
        until_quiet(proxy, quiet=5)
        cpu, rss = operator.usage()
    calls = proxy.calls[before:]
    writes = [call for call in calls if call.is_write]
    lists = Counter(call.resource for call in calls if call.method == "GET" and not call.watch)
    notices = sum(call.resource == "events" for call in calls)
    return [
        Figure("restart: seconds until its caches are full", f"{ready:.1f}"),
        Figure("restart: CPU seconds until it rests", f"{cpu:.1f}"),
        Figure("restart: writes", str(len(writes)), "0", not writes, detail=_told(Counter(w.resource for w in writes))),
        Figure("restart: Kubernetes Events posted", str(notices), "0", not notices),
        Figure("restart: reads", str(lists.total()), detail=_told(lists)),
        Figure("restart: RSS, MiB", f"{rss / 2**20:.0f}", "<= 400", rss <= 400 * 2**20),
    ]


def _told(counted: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in counted.most_common())
