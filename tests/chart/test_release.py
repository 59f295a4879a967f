"""Install, upgrade, roll back and uninstall on a real API server, by a real Helm engine."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest

from tests.apiserver.stage import Stage
from tests.chart.conftest import HelmFor
from tests.chart.engine import CORE, Helm, Manifest, Values, named, render
from tests.chart.test_render import BY_OPERATOR, EVERYTHING
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.processes import wait_until

_PLURALS = {
    "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "Role": "roles",
    "RoleBinding": "rolebindings", "ConfigMap": "configmaps", "Secret": "secrets", "Service": "services",
    "ServiceAccount": "serviceaccounts", "Deployment": "deployments", "PodDisruptionBudget": "poddisruptionbudgets",
    "NetworkPolicy": "networkpolicies", "FunctionRepository": "functionrepositories", "Pod": "pods",
    "CustomResourceDefinition": "customresourcedefinitions",
}  # fmt: skip


def path(manifest: Manifest, *, collection: bool = False) -> str:
    """Where the API server has it."""
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    inside = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    base = f"{root}{inside}/{_PLURALS[manifest['kind']]}"
    return base if collection else f"{base}/{metadata['name']}"


def deployment(bed: KubernetesBed, namespace: str) -> dict[str, Any]:
    return bed.api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/knative-lambda-operator")


def test_a_strict_server_takes_every_manifest(kubernetes_bed: KubernetesBed, namespace: str) -> None:
    """What an old kubectl would drop in silence, this refuses: unknown and repeated fields."""
    everywhere: Values = {
        **EVERYTHING,
        "watchNamespaces": [namespace],
        "build": {**EVERYTHING["build"], "namespace": namespace},
        "deadLetters": {**EVERYTHING["deadLetters"], "namespace": namespace},
        "repositories": [{"name": "shop", "namespace": namespace, "spec": {"url": "https://git.example.com/shop"}}],
        "serviceMonitor": {"enabled": False},
        "prometheusRule": {"enabled": False},
        "crds": {"install": False},
        "affinity": {},
    }
    strict: dict[str, str | int] = {"fieldValidation": "Strict", "dryRun": "All"}
    for values in (everywhere, CORE):
        manifests = render(values, namespace=namespace)
        assert len(manifests) > 8
        for manifest in manifests:
            kubernetes_bed.api.request("POST", path(manifest, collection=True), body=manifest, query=strict)


def test_install_upgrade_rollback_and_uninstall(kubernetes_bed: KubernetesBed, helm: Helm) -> None:
    api, namespace = kubernetes_bed.api, helm.namespace
    made = helm.install()
    assert all(api.find(path(manifest)) is not None for manifest in made)
    assert deployment(kubernetes_bed, namespace)["spec"]["replicas"] == 2

    helm.upgrade({"replicas": 3, "log": {"level": "debug"}})
    changed = deployment(kubernetes_bed, namespace)
    assert changed["spec"]["replicas"] == 3
    config = api.get(path(named(made, "ConfigMap")))
    assert "log_level: debug" in config["data"]["settings.yaml"]

    helm.rollback(1)
    assert deployment(kubernetes_bed, namespace)["spec"]["replicas"] == 2
    assert "log_level: info" in api.get(path(named(made, "ConfigMap")))["data"]["settings.yaml"]
    assert helm.history() == ["superseded", "superseded", "deployed"]

    helm.uninstall()
    wait_until(lambda: not [one for one in made if api.find(path(one))], what="everything gone", timeout=30)


def test_an_upgrade_from_roles_for_all_to_named_namespaces_takes_the_wide_rights_away(
    kubernetes_bed: KubernetesBed, helm: Helm
) -> None:
    wide = [one for one in helm.install() if one["kind"].startswith("ClusterRole")]
    assert len(wide) == 2
    helm.upgrade({"watchNamespaces": [helm.namespace]})
    assert [one for one in wide if kubernetes_bed.api.find(path(one))] == []


def test_pods_pass_restricted_pod_security(kubernetes_bed: KubernetesBed, helm: Helm) -> None:
    """The ReplicaSet's own attempt, under enforcement by the API server."""
    api, namespace = kubernetes_bed.api, helm.namespace
    api.merge(
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    test = next(one for one in render(CORE, namespace=namespace) if one["kind"] == "Pod")
    api.create(path(test, collection=True), test)
    helm.install()

    def pods() -> list[dict[str, Any]]:
        return api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector="app.kubernetes.io/component=controller")

    wait_until(lambda: len(pods()) == 2, what="two pods", timeout=30)
    assert pods()[0]["spec"]["serviceAccountName"] == "knative-lambda-operator"


def test_repositories_of_the_values_become_objects_and_survive_the_release(helm: Helm, stage: Stage) -> None:
    spec = {"url": "https://git.example.com/shop.git", "interval": "1h"}
    helm.install({"repositories": [{"name": "shop", "spec": spec}]})
    repository = stage.path("functionrepositories", "shop")
    assert stage.api.get(repository)["spec"]["url"] == spec["url"]
    helm.upgrade({"repositories": [{"name": "shop", "spec": {**spec, "interval": "2h"}}]})
    assert stage.api.get(repository)["spec"]["interval"] == "2h"
    helm.upgrade({})
    assert stage.api.find(repository) is not None
    helm.uninstall()
    assert stage.api.find(repository) is not None
    helm.install({"repositories": [{"name": "shop", "spec": spec}]})
    assert stage.api.get(repository)["spec"]["interval"] == "1h", "the next release takes it over"


def test_a_repository_that_the_server_refuses_fails_in_its_words_and_is_mended_by_an_upgrade(
    kubernetes_bed: KubernetesBed, helm: Helm
) -> None:
    with pytest.raises(helm_python.HelmError, match=r"FunctionRepository.* \.spec\.interval: expected string"):
        helm.install({"repositories": [{"name": "shop", "spec": {"url": "https://git.example.com/a", "interval": 5}}]})
    assert helm.history() == ["failed"]
    helm.upgrade({})
    assert helm.history()[-1] == "deployed"
    assert deployment(kubernetes_bed, helm.namespace)["spec"]["replicas"] == 2


def test_notes_tell_what_is_missing_and_what_is_next(helm: Helm) -> None:
    helm.install()
    notes = helm.notes()
    assert "NO EVENTS ARE SENT" in notes
    assert "rabbitmq.existingSecret.name" in notes
    assert "KNATIVE SERVING IS NOT INSTALLED" not in notes
    helm.upgrade({"rabbitmq": {"existingSecret": {"name": "rabbitmq-url"}}})
    assert "NO EVENTS" not in helm.notes()


def test_two_releases_that_name_other_namespaces_live_side_by_side(
    kubernetes_bed: KubernetesBed, helm: Helm, helm_for: HelmFor, other_namespace: str
) -> None:
    first = helm.install({"watchNamespaces": [helm.namespace]})
    second = helm_for(other_namespace).install({"watchNamespaces": [other_namespace]})
    assert not {path(one) for one in first} & {path(one) for one in second}
    assert all(kubernetes_bed.api.find(path(one)) for one in [*first, *second])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({}, {"watchNamespaces": ["other"]}),
        ({"watchNamespaces": ["default"]}, {}),
        ({"watchNamespaces": ["default"]}, {"watchNamespaces": ["kube-public", "default"]}),
    ],
    ids=["all and all", "all and some", "some and all", "one in common"],
)
def test_a_second_release_that_would_fight_the_first_is_refused(
    helm: Helm, helm_for: HelmFor, other_namespace: str, first: Values, second: Values
) -> None:
    helm.install(first)
    with pytest.raises(helm_python.HelmError, match=r"watchNamespaces: .*would fight over the same functions") as told:
        helm_for(other_namespace).install(second)
    assert helm.namespace in str(told.value) or "default is watched already" in str(told.value)


def test_whoever_insists_gets_two_releases_whose_cluster_wide_names_differ(
    helm: Helm, helm_for: HelmFor, other_namespace: str
) -> None:
    first = helm.install()
    second = helm_for(other_namespace).install({"allowOverlap": True})
    assert not {path(one) for one in first} & {path(one) for one in second}


def test_a_kind_of_the_prometheus_operator_that_is_missing_is_named(kubernetes_bed: KubernetesBed, helm: Helm) -> None:
    for key in ("serviceMonitor", "prometheusRule"):
        with pytest.raises(helm_python.HelmError, match=rf"{key}\.enabled: this cluster does not know"):
            helm.install({key: {"enabled": True}})
    left = kubernetes_bed.api.items(f"/apis/apps/v1/namespaces/{helm.namespace}/deployments")
    assert left == []


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"watchNamespaces": ["nowhere"]}, "watchNamespaces"),
        ({"build": {"namespace": "nowhere"}}, r"build\.namespace"),
        (
            BY_OPERATOR | {"deadLetters": {"enabled": True, "declare": "operator", "namespace": "nowhere"}},
            r"deadLetters\.namespace",
        ),
        (
            BY_OPERATOR | {"rabbitmq": {"url": "amqp://a", "cluster": {"namespace": "nowhere", "name": "main"}}},
            r"rabbitmq\.cluster\.namespace",
        ),
    ],
    ids=["watched", "for builds", "for dead letters", "of the RabbitmqCluster"],
)
def test_a_namespace_that_does_not_exist_is_named_before_anything_is_made(
    kubernetes_bed: KubernetesBed, helm: Helm, values: Values, key: str
) -> None:
    with pytest.raises(helm_python.HelmError, match=f"{key}: namespace nowhere does not exist"):
        helm.install(values)
    inside = f"/api/v1/namespaces/{helm.namespace}/serviceaccounts/knative-lambda-operator"
    assert kubernetes_bed.api.find(inside) is None


def test_kinds_that_somebody_else_installed_are_not_taken_over(helm: Helm) -> None:
    with pytest.raises(helm_python.HelmError, match=r"crds\.install: .* belongs to somebody who did not use Helm"):
        helm.install({"crds": {"install": True}})
