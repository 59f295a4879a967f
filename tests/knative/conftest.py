"""Tier knative: everything, tests included, runs in a private network namespace with Knative's own processes.

Outside the namespace the hooks below start a pytest inside and pass its reports on; inside, they are its fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage
from tests.testbed import assets
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.knative import bed, netns, session
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.standins import Kubelet

_HERE = Path(__file__).parent
_INNER = pytest.StashKey[session.Inner]()
_MISSING = pytest.StashKey[str]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Outside: decide once whether the tier can run, and hand its tests to the inner pytest."""
    _hand_over(config, [item for item in items if item.path.is_relative_to(_HERE)])


def _hand_over(config: pytest.Config, ours: list[pytest.Item]) -> None:
    if not ours or session.inside() or config.option.collectonly:
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if capture is not None else nullcontext()
    try:
        netns.command()
        with shown:  # a first build takes minutes, and its progress should be seen
            assets.knative_programs()
    except Unavailable as gap:
        config.stash[_MISSING] = gap.reason
        return
    inner = session.Inner(config, [item.nodeid for item in ours])
    config.stash[_INNER] = inner
    config.add_cleanup(inner.stop)
    for item in ours:
        item.add_marker(pytest.mark.timeout(0))  # the inner pytest keeps the time


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Outside: the test's reports come from the inner pytest."""
    inner = item.config.stash.get(_INNER, None)
    if inner is None or not item.path.is_relative_to(_HERE):  # pytest asks here about every tier's tests
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in inner.reports(item.nodeid):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Outside, without namespaces or programs: skipped with the reason, or failed in CI."""
    missing = item.config.stash.get(_MISSING, "")
    if missing:
        give_up(missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Inside: every report is also written for the outer pytest."""
    report = yield
    if session.inside():
        session.tell(item.config, report)
    return report


@pytest.fixture(scope="session")
def kubernetes_bed(uncaptured: Callable[[], AbstractContextManager[None]]) -> Iterator[KubernetesBed]:
    """In place of every other tier's: with Knative's internal CRDs too, and Endpoints."""
    crds = assets.crd_files() + assets.project_crds() + assets.manifest_files(*assets.KNATIVE_CRDS)
    try:
        with uncaptured():
            started = KubernetesBed.start(crds=crds, more_controllers=bed.CONTROLLERS)
    except Unavailable as gap:
        give_up(gap.reason)
    with started:
        yield started


@pytest.fixture(scope="session")
def knative_bed(kubernetes_bed: KubernetesBed) -> Iterator[bed.KnativeBed]:
    """Knative itself."""
    with bed.KnativeBed.start(kubernetes=kubernetes_bed) as started:
        yield started


@pytest.fixture
def stage(kubernetes_bed: KubernetesBed, knative_bed: bed.KnativeBed, kubelet: Kubelet, namespace: str) -> Stage:
    """A fresh namespace in which builds are played and Knative is real."""
    assert kubelet is not None
    knative_bed.node.outcomes.clear()
    return Stage(kubernetes_bed.api, namespace)


@pytest.fixture
def operator(kubernetes_bed: KubernetesBed, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """The controller as a process, for the test's namespace."""
    operator = Operator(
        kubeconfig=kubernetes_bed.kubeconfig,
        folder=tmp_path / "operator",
        arguments=("--namespace", namespace, "--no-leader-elect", "--events", "none"),
    )
    yield operator.start()
    operator.kill()
