"""A release in a namespace of the test's own, and the controller with the rights of that release."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.apiserver.conftest import stage, standins  # noqa: F401 - fixtures
from tests.chart.engine import CORE, Helm, Values
from tests.testbed.kubernetes import KubernetesBed

HelmFor = Callable[..., Helm]


@pytest.fixture
def helm_for(kubernetes_bed: KubernetesBed) -> Iterator[HelmFor]:
    """Helm for a namespace of the shared bed; what it installed is uninstalled after the test."""
    made: list[Helm] = []

    def make(namespace: str, *, name: str = "knative-lambda", shared: Values = CORE) -> Helm:
        made.append(Helm(kubernetes_bed.kubeconfig, namespace, name=name, shared=shared))
        return made[-1]

    yield make
    for helm in made:
        helm.uninstall()


@pytest.fixture
def helm(helm_for: HelmFor, namespace: str) -> Helm:
    """Helm for the test's own namespace."""
    return helm_for(namespace)


@pytest.fixture
def other_namespace(kubernetes_bed: KubernetesBed, namespace: str) -> Iterator[str]:
    """A second namespace of the test's own."""
    name = kubernetes_bed.create_namespace(f"{namespace[:50]}-other")
    yield name
    kubernetes_bed.delete_namespace(name)
