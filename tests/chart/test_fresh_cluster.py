"""A cluster that knows none of our kinds: the chart brings them, keeps them, and never half installs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import helm_python
import pytest

from tests.chart.engine import Helm, Values
from tests.chart.readme import CHART
from tests.chart.test_render import BROKERS, BY_AMQP, BY_OPERATOR
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.kubernetes import CRDS, KubernetesBed

KIND = f"{CRDS}/lambdafunctions.lambda.knative.io"
REPOSITORIES = {"repositories": [{"name": "shop", "spec": {"url": "https://git.example.com/shop.git"}}]}


@pytest.fixture(scope="module")
def fresh() -> Iterator[KubernetesBed]:
    """A control plane of this module's own, without any CRD."""
    try:
        bed = KubernetesBed.start()
    except Unavailable as gap:
        give_up(gap.reason)
    with bed:
        yield bed


@pytest.fixture
def helm(fresh: KubernetesBed) -> Iterator[Helm]:
    namespace = "platform"
    if fresh.api.find(f"/api/v1/namespaces/{namespace}") is None:
        fresh.create_namespace(namespace)
    helm = Helm(fresh.kubeconfig, namespace)
    yield helm
    helm.uninstall()


def releases(fresh: KubernetesBed) -> list[str]:
    deployments = fresh.api.items("/apis/apps/v1/namespaces/platform/deployments")
    return [one["metadata"]["name"] for one in deployments]


def test_without_its_kinds_nothing_is_installed(fresh: KubernetesBed, helm: Helm) -> None:
    with pytest.raises(helm_python.HelmError, match=r"crds\.install: this cluster does not know LambdaFunction"):
        helm.install({"crds": {"install": False}})
    with pytest.raises(helm_python.HelmError, match=r"repositories: .*install once without repositories"):
        helm.install(REPOSITORIES)
    assert releases(fresh) == []
    assert fresh.api.find(KIND) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (BY_OPERATOR, r"deadLetters\.declare: this cluster does not know rabbitmq\.com Exchange"),
        (
            BY_AMQP | {"rabbitmq": {"url": "amqp://a", "cluster": {"namespace": "default", "name": "main"}}},
            r"rabbitmq\.cluster: this cluster does not know RabbitmqCluster",
        ),
        (BROKERS, r"brokers\.create: this cluster does not know RabbitmqBrokerConfig"),
    ],
    ids=["topology operator", "cluster operator", "Knative's RabbitMQ Broker"],
)
def test_without_the_kinds_that_values_ask_for_nothing_is_installed(
    fresh: KubernetesBed, helm: Helm, values: Values, words: str
) -> None:
    with pytest.raises(helm_python.HelmError, match=words):
        helm.install(values)
    assert releases(fresh) == []
    assert fresh.api.find(KIND) is None


def test_dead_letters_by_amqp_need_no_kind_of_anybody(fresh: KubernetesBed, helm: Helm) -> None:
    helm.install(BY_AMQP)
    assert releases(fresh) == ["knative-lambda-operator"]
    assert "kn-lambda dlq list" in helm.notes()


def test_kinds_come_with_the_release_are_upgraded_with_it_and_outlive_it(
    fresh: KubernetesBed, helm: Helm, tmp_path: Path
) -> None:
    older = shutil.copytree(CHART, tmp_path / "chart")
    file = older / "files" / "crds" / "lambdafunctions.lambda.knative.io.yaml"
    file.write_text(file.read_text().replace("- lfn\n", "- oldfn\n"))
    helm.install(chart=older)
    assert fresh.api.get(KIND)["spec"]["names"]["shortNames"] == ["oldfn"]
    assert "KNATIVE SERVING IS NOT INSTALLED" in helm.notes()
    helm.upgrade({"replicas": 1})
    assert fresh.api.get(KIND)["spec"]["names"]["shortNames"] == ["lfn"]
    helm.upgrade(REPOSITORIES)
    shop = "/apis/lambda.knative.io/v1alpha1/namespaces/platform/functionrepositories/shop"
    assert fresh.api.find(shop) is not None
    helm.uninstall()
    assert releases(fresh) == []
    assert fresh.api.find(KIND) is not None
    assert fresh.api.find(shop) is not None, "deleting it would have deleted its functions"


def test_kinds_that_a_release_left_behind_are_taken_up_by_the_next_of_that_name_only(
    fresh: KubernetesBed, helm: Helm
) -> None:
    helm.install()
    helm.uninstall()
    fresh.create_namespace("elsewhere")
    other = Helm(fresh.kubeconfig, "elsewhere", name="second")
    with pytest.raises(helm_python.HelmError, match="belongs to release knative-lambda in namespace platform"):
        other.install()
    helm.install()
    assert releases(fresh) == ["knative-lambda-operator"]
