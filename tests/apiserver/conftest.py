"""The controller as a process, a namespace of the test's own, and somebody who listens to the events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apiserver.operator import Operator
from tests.apiserver.proxy import ApiProxy
from tests.apiserver.stage import Stage
from tests.apiserver.tap import EventTap
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.standins import Knative, Kubelet

StartOperator = Callable[..., Operator]


@dataclass(frozen=True, slots=True)
class StandIns:
    """Who plays the node and Knative; their `outcomes` decide what becomes of which object."""

    kubelet: Kubelet
    knative: Knative


@pytest.fixture
def standins(kubelet: Kubelet, knative: Knative) -> StandIns:
    """The session's, with every outcome back to success after the test."""
    return StandIns(kubelet, knative)


@pytest.fixture
def stage(kubernetes_bed: KubernetesBed, standins: StandIns, namespace: str) -> Stage:
    """A fresh namespace in which kubelet and Knative are played."""
    assert standins.kubelet is not standins.knative
    return Stage(kubernetes_bed.api, namespace)


@pytest.fixture
def tap(vhost_url: str) -> Iterator[EventTap]:
    """Everything that the controller publishes in this test."""
    tap = EventTap(vhost_url, queue="tap").open()
    yield tap
    tap.close()


@pytest.fixture
def proxy(kubernetes_bed: KubernetesBed) -> Iterator[ApiProxy]:
    """Stands between the controller and the API server."""
    proxy = ApiProxy(url=kubernetes_bed.url, token=kubernetes_bed.token, ca_file=kubernetes_bed.ca_file).start()
    yield proxy
    proxy.stop()


@pytest.fixture
def start_operator(kubernetes_bed: KubernetesBed, namespace: str, tmp_path: Path) -> Iterator[StartOperator]:
    """Starts controllers for the test's namespace; what still runs at its end is ended."""
    started: list[Operator] = []

    def start(
        *arguments: str,
        kubeconfig: Path | None = None,
        events: str = "",
        wait: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Operator:
        chosen = ("--rabbitmq", events) if events else ("--events", "none")
        leader = () if "--leader-elect" in arguments else ("--no-leader-elect",)
        operator = Operator(
            kubeconfig=kubeconfig or kubernetes_bed.kubeconfig,
            folder=tmp_path / f"operator-{len(started)}",
            arguments=("--namespace", namespace, *leader, *chosen, *arguments),
            environment=environment,
        )
        started.append(operator)
        return operator.start(wait=wait)

    yield start
    for operator in started:
        operator.kill()


@pytest.fixture
def operator(start_operator: StartOperator, vhost_url: str, tap: EventTap) -> Operator:
    """The usual one: publishes to RabbitMQ, no leader election."""
    assert tap is not None
    return start_operator(events=vhost_url)


@pytest.fixture
def proxied(start_operator: StartOperator, proxy: ApiProxy, tmp_path: Path) -> Operator:
    """One that reaches the API server through the proxy and publishes nothing."""
    return start_operator(kubeconfig=proxy.kubeconfig(tmp_path / "proxied.kubeconfig"))
