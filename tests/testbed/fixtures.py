"""pytest fixtures over the test bed; load them with `pytest_plugins = ["tests.testbed.fixtures"]`.

What this machine cannot run is skipped with its reason; with `CI` set that is a failure instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.testbed import assets
from tests.testbed.errors import Unavailable
from tests.testbed.gitserver import Failure, GitServer
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.rabbitmq import RabbitMQBed
from tests.testbed.standins import Knative, Kubelet
from tests.testbed.topology import TopologyOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def give_up(reason: str) -> NoReturn:
    """Skip, or fail where nothing may be skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, and the test bed is not available: {reason}", pytrace=False)
    pytest.skip(f"test bed: {reason}")


@pytest.fixture(scope="session")
def uncaptured(request: pytest.FixtureRequest) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in which the bed's progress lines reach the terminal: a first build takes minutes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    @contextlib.contextmanager
    def shown() -> Iterator[None]:
        if capture is None:
            yield
            return
        with capture.global_and_fixture_disabled():
            yield

    return shown


@pytest.fixture(scope="session")
def kubernetes_bed(
    uncaptured: Callable[[], contextlib.AbstractContextManager[None]],
) -> Iterator[KubernetesBed]:
    """One control plane for all tests, with every CRD: Knative's, RabbitMQ's and our own."""
    try:
        with uncaptured():
            bed = KubernetesBed.start(crds=assets.crd_files() + assets.project_crds())
    except Unavailable as gap:
        give_up(gap.reason)
    with bed:
        yield bed


@pytest.fixture
def namespace(kubernetes_bed: KubernetesBed, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, deleted afterwards without waiting."""
    readable = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")[:40]
    name = kubernetes_bed.create_namespace(f"{readable}-{secrets.token_hex(3)}".lstrip("-"))
    yield name
    kubernetes_bed.delete_namespace(name)


@pytest.fixture(scope="session")
def rabbitmq_bed(uncaptured: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[RabbitMQBed]:
    """One broker for all tests: a running one by URL, else our own. Do not kill it; see `own_rabbitmq`."""
    try:
        with uncaptured():
            bed = RabbitMQBed.shared()
    except Unavailable as gap:
        give_up(gap.reason)
    with bed:
        yield bed


@pytest.fixture(scope="session")
def topology_operator(
    kubernetes_bed: KubernetesBed,
    rabbitmq_bed: RabbitMQBed,
    uncaptured: Callable[[], contextlib.AbstractContextManager[None]],
) -> Iterator[TopologyOperator]:
    """RabbitMQ's own topology operator with its webhooks, in every namespace, for the session's RabbitMQ.

    `connection_secret(namespace)` makes what its objects refer to.
    """
    try:
        with uncaptured():
            operator = TopologyOperator.start(kubernetes=kubernetes_bed, rabbitmq=rabbitmq_bed)
    except Unavailable as gap:
        give_up(gap.reason)
    with operator:
        yield operator


@pytest.fixture
def own_rabbitmq(uncaptured: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[RabbitMQBed]:
    """A broker of the test's own, to be killed and restarted."""
    try:
        with uncaptured():
            bed = RabbitMQBed.start()
    except Unavailable as gap:
        give_up(gap.reason)
    with bed:
        yield bed


@pytest.fixture
def vhost_url(rabbitmq_bed: RabbitMQBed) -> Iterator[str]:
    """amqp URL of a virtual host of the test's own on the shared broker."""
    name = f"test-{secrets.token_hex(4)}"
    yield rabbitmq_bed.create_vhost(name)
    rabbitmq_bed.delete_vhost(name)


@pytest.fixture(scope="session")
def _git_server() -> Iterator[GitServer]:
    try:
        server = GitServer.start()
    except Unavailable as gap:
        give_up(gap.reason)
    with server:
        yield server


@pytest.fixture
def git_server(_git_server: GitServer) -> Iterator[GitServer]:
    """The session's git server; a failure that the test switched on is switched off after it."""
    yield _git_server
    _git_server.failure = Failure.NONE


@pytest.fixture(scope="session")
def _kubelet(kubernetes_bed: KubernetesBed) -> Iterator[Kubelet]:
    with Kubelet(kubeconfig=kubernetes_bed.kubeconfig) as kubelet:
        yield kubelet


@pytest.fixture
def kubelet(_kubelet: Kubelet) -> Iterator[Kubelet]:
    """The stand-in that ends the Pods of Jobs, in every namespace; outcomes are forgotten after the test."""
    yield _kubelet
    _kubelet.outcomes.clear()


@pytest.fixture(scope="session")
def _knative(kubernetes_bed: KubernetesBed) -> Iterator[Knative]:
    with Knative(kubeconfig=kubernetes_bed.kubeconfig) as knative:
        yield knative


@pytest.fixture
def knative(_knative: Knative) -> Iterator[Knative]:
    """The stand-in for Knative's controllers, in every namespace; outcomes are forgotten after the test."""
    yield _knative
    _knative.outcomes.clear()
