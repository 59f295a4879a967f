"""What the chart renders, without a cluster: lint, a matrix of values, settings that the controller reads."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

import knative_lambda
from knative_lambda import settings as configuration
from knative_lambda.resources.dead_letter import MAX_LENGTH
from knative_lambda.web import dead_letters as route
from knative_lambda.web import figures, metrics
from knative_lambda.wiring import dead_letters
from tests.chart import readme, rights
from tests.chart.engine import Manifest, Values, named, render

ROOT = Path(__file__).parents[2]
RABBITMQ: Values = {"rabbitmq": {"existingSecret": {"name": "rabbitmq-url"}}}
BY_AMQP: Values = RABBITMQ | {"deadLetters": {"enabled": True}}
BY_OPERATOR: Values = {
    "rabbitmq": {"existingSecret": {"name": "rabbitmq-url"}, "topologySecret": "rabbitmq-connection"},
    "deadLetters": {"enabled": True, "declare": "operator"},
}
BROKERS: Values = {"rabbitmq": {"topologySecret": "rabbitmq-connection"}, "brokers": {"create": True}}
EVERYTHING: Values = {
    "replicas": 3,
    "image": {"digest": "sha256:" + "0" * 64, "tag": "v1"},
    "imagePullSecrets": [{"name": "pull"}],
    "watchNamespaces": ["shop", "billing"],
    "repositories": [{"name": "shop", "namespace": "shop", "spec": {"url": "https://git.example.com/shop.git"}}],
    "rabbitmq": {
        "url": "amqps://user:secret@rabbit.example.com/%2f", "exchange": "events",
        "cluster": {"namespace": "rabbits", "name": "main"},
    },
    "deadLetters": {"enabled": True, "declare": "operator"},
    "brokers": {"create": True},
    "build": {
        "registry": "localhost:5001", "pushRegistry": "kind-registry:5000",
        "insecureRegistries": ["kind-registry:5000"], "namespace": "builds", "retries": 0,
    },
    "git": {"workers": 2, "allowNetworks": ["10.0.0.0/8"], "cacheSize": "5Gi"},
    "log": {"level": "debug"},
    "settings": {"workers": 20, "qps": 200},
    "serviceAccount": {"name": "lambda", "annotations": {"a": "b"}},
    "rbac": {"secretNames": ["git", "hook"]},
    "service": {"annotations": {"c": "d"}},
    "podAnnotations": {"e": "f"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "networkPolicy": {"enabled": True, "webhooksFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
}  # fmt: skip
MATRIX: dict[str, Values] = {
    "defaults": {},
    "kind": yaml.safe_load((readme.CHART / "values-kind.yaml").read_text()),
    "rabbitmq by secret": RABBITMQ,
    "one namespace": {"watchNamespaces": ["shop"]},
    "builds elsewhere": {"build": {"namespace": "builds"}},
    "no webhooks": {"webhooks": {"enabled": False}, "networkPolicy": {"enabled": True}},
    "dead letters by AMQP": BY_AMQP | {"networkPolicy": {"enabled": True}},
    "dead letters by the topology operator": BY_OPERATOR,
    "Brokers without events": BROKERS,
    "account of somebody else": {"serviceAccount": {"create": False, "name": "mine"}, "rbac": {"create": False}},
    "everything": EVERYTHING,
}
every_case = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())


def settings_of(manifests: list[Manifest], folder: Path, monkeypatch: pytest.MonkeyPatch) -> configuration.Settings:
    """The settings as the controller would read them in the pod that was rendered."""
    file = folder / "settings.yaml"
    (config,) = [one for one in manifests if one["kind"] == "ConfigMap"]
    file.write_text(config["data"]["settings.yaml"])
    for variable in container(manifests).get("env", []):
        monkeypatch.setenv(variable["name"], "amqp://host/")
    return configuration.load(file=file)


def container(manifests: list[Manifest]) -> dict[str, Any]:
    (found,) = named(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


@every_case
def test_lint_finds_nothing(values: Values) -> None:
    found = helm_python.lint(readme.CHART, values, strict=True)
    assert found["errors"] == []
    assert [one["error"] for one in found["messages"]] == ["icon is recommended"]


@every_case
def test_the_controller_reads_the_settings(values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = render(values)
    settings = settings_of(manifests, tmp_path, monkeypatch)
    assert settings.lease_namespace == "platform"
    assert settings.namespaces == tuple(values.get("watchNamespaces", ()))
    named_rabbit = {"url", "existingSecret"} & set(values.get("rabbitmq", ()))
    assert settings.events == ("rabbitmq" if named_rabbit else "none")
    assert settings.builder_image == container(manifests)["image"]
    assert {mount["mountPath"] for mount in container(manifests)["volumeMounts"]} >= {str(settings.cache_dir), "/tmp"}


@every_case
def test_every_pod_fits_restricted_pod_security(values: Values) -> None:
    manifests = render(values)
    pods = [named(manifests, "Deployment")["spec"]["template"]["spec"], named(manifests, "Pod")["spec"]]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in pod["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip


@every_case
def test_no_rule_has_a_wildcard_and_every_right_is_needed_by_code(values: Values) -> None:
    found = {right for rule in rights.rules(render(values)) for right in rights.rights(rule)}
    assert not [right for right in found if "*" in right]
    for right in found:
        need = rights.NEEDS[right]
        assert need.words in rights.code_of(need.place), f"{right} is for {need}, which is not there"


def test_no_right_is_in_the_table_that_the_chart_does_not_give() -> None:
    found = {right for values in (RABBITMQ, EVERYTHING) for inside in given(values).values() for right in inside}
    assert found == set(rights.NEEDS)


def given(values: Values) -> dict[str, set[rights.Right]]:
    """Every right by the namespace of its Role; those of a ClusterRole are at ""."""
    found: dict[str, set[rights.Right]] = {}
    for role in render(values):
        if role["kind"] in ("Role", "ClusterRole"):
            inside = found.setdefault(role["metadata"].get("namespace", ""), set())
            inside |= {right for rule in role["rules"] for right in rights.rights(rule)}
    return found


@pytest.mark.parametrize(
    ("more", "namespace"),
    [
        ({}, "platform"),
        ({"deadLetters": {**BY_OPERATOR["deadLetters"], "namespace": "letters"}}, "letters"),
        ({"rabbitmq": EVERYTHING["rabbitmq"]}, "rabbits"),
    ],
    ids=["of the release", "that was named", "of the RabbitmqCluster"],
)
def test_rights_on_topology_objects_are_given_in_their_namespace_and_only_for_the_operator(
    more: Values, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = BY_OPERATOR | more
    topology = {right for right in rights.NEEDS if right.group == "rabbitmq.com"}
    where = {place for place, inside in given(values).items() if inside & topology}
    assert where == {namespace}
    assert settings_of(render(values), tmp_path, monkeypatch).dead_letter_namespace == namespace
    assert len(topology) == 12
    assert topology <= given(values)[namespace]
    assert given(BY_AMQP) == given(RABBITMQ)


def test_rights_to_make_brokers_are_given_where_functions_are_and_only_when_asked_for() -> None:
    making = {rights.Right("eventing.knative.dev", kind, "create") for kind in ("brokers", "rabbitmqbrokerconfigs")}
    assert {place for place, inside in given(BROKERS).items() if inside & making} == {""}
    few = given(BROKERS | {"watchNamespaces": ["shop", "billing"]})
    assert {place for place, inside in few.items() if inside >= making} == {"shop", "billing"}
    assert given(BROKERS | {"brokers": {"create": False}})[""] == given(BROKERS)[""] - making


def test_the_controller_is_told_on_which_rabbitmq_to_make_brokers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(render(BROKERS), tmp_path, monkeypatch)
    assert settings.create_brokers
    assert (settings.rabbitmq_secret, settings.dead_letter_namespace) == ("rabbitmq-connection", "platform")
    assert not settings_of(render(), tmp_path, monkeypatch).create_brokers


def test_the_controller_is_told_who_makes_dead_letter_queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(values: Values) -> tuple[str, str | None, str | None]:
        settings = settings_of(render(values), tmp_path, monkeypatch)
        return settings.dead_letters, settings.rabbitmq_cluster, settings.rabbitmq_secret

    assert told(RABBITMQ) == ("none", None, None)
    assert told(BY_AMQP) == ("amqp", None, None)
    assert told(BY_OPERATOR) == ("operator", None, "rabbitmq-connection")
    assert told(EVERYTHING) == ("operator", "rabbits/main", None)


def test_triggers_are_sent_to_the_service_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = render(BY_AMQP)
    sink = dead_letters.sink(settings_of(manifests, tmp_path, monkeypatch))
    assert sink is not None
    service = named(manifests, "Service")
    (port,) = [one for one in service["spec"]["ports"] if one["targetPort"] == "http"]
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert sink.url == f"http://{name}.{namespace}.svc.cluster.local:{port['port']}"


def test_a_network_policy_lets_knatives_dispatchers_bring_dead_letters() -> None:
    def callers(values: Values) -> list[object]:
        limited = {"networkPolicy": {"enabled": True, "operationsFrom": [{"podSelector": {}}], **values}}
        policy = named(render(BY_AMQP | limited), "NetworkPolicy")
        rules = policy["spec"]["ingress"]
        return [one for rule in rules if rule["ports"][0]["port"] == "http" for one in rule["from"]]

    everywhere: Values = {"namespaceSelector": {}}
    knative = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "knative-eventing"}}}
    rabbit = {"podSelector": {"matchLabels": {"eventing.knative.dev/brokerRole": "dispatcher"}}}
    mine = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
    assert callers({}) == [{"podSelector": {}}, knative, everywhere | rabbit]
    assert callers({"deadLettersFrom": [mine]}) == [{"podSelector": {}}, mine]
    assert callers({"operationsFrom": []})[0] == everywhere


def test_named_namespaces_get_roles_and_the_cluster_none() -> None:
    manifests = render(EVERYTHING)
    kinds = {one["kind"] for one in manifests}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}
    roles = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in manifests if one["kind"] == "Role"}
    assert roles == {
        ("shop", "knative-lambda-operator:platform"),
        ("billing", "knative-lambda-operator:platform"),
        ("builds", "knative-lambda-operator:platform:builds"),
        ("rabbits", "knative-lambda-operator:platform:dead-letters"),
        ("platform", "knative-lambda-operator"),
    }
    secrets = [rule for rule in rights.rules(manifests) if rule["resources"] == ["secrets"]]
    assert [rule["resourceNames"] for rule in secrets] == [["git", "hook"]] * 2


def test_a_password_is_in_the_secret_and_nowhere_else() -> None:
    manifests = render(EVERYTHING)
    secret = named(manifests, "Secret")
    rest = yaml.safe_dump([one for one in manifests if one is not secret])
    assert "user:secret" not in rest
    (variable,) = container(manifests)["env"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": secret["metadata"]["name"], "key": "url"}


def test_changed_settings_roll_the_pods() -> None:
    def digest(values: Values) -> object:
        return named(render(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]

    assert digest({}) == digest({"replicas": 1})
    assert digest({}) != digest({"log": {"level": "debug"}})


def test_alerts_ask_for_metrics_and_labels_that_the_controller_shows() -> None:
    (group,) = named(render(EVERYTHING), "PrometheusRule")["spec"]["groups"]
    source = inspect.getsource(metrics) + inspect.getsource(figures)
    assert len(group["rules"]) == 6
    for rule in group["rules"]:
        names = re.findall(r"operator_(\w+)", rule["expr"])
        words = re.findall(r'result="(\w+)"', rule["expr"])
        endpoints = re.findall(r'endpoint="([^"]+)"', rule["expr"])
        assert endpoints in ([], [route.PATH])
        labels = re.findall(r"by \((.*?)\)", rule["expr"])
        assert names
        assert all(f'"{name}"' in source for name in [*names, *words]), rule["alert"]
        assert set(labels) <= {"namespace, function_name"}


def test_the_alert_for_a_full_queue_comes_before_it_is_full() -> None:
    (group,) = named(render(EVERYTHING), "PrometheusRule")["spec"]["groups"]
    (full,) = [rule for rule in group["rules"] if rule["alert"] == "KnativeLambdaDeadLettersOverflow"]
    assert int(full["expr"].rpartition(" ")[2]) == MAX_LENGTH * 8 // 10
    assert f"{MAX_LENGTH:,}" in full["annotations"]["summary"]
    quiet = EVERYTHING | {"deadLetters": {"enabled": False}}
    (group,) = named(render(quiet), "PrometheusRule")["spec"]["groups"]
    assert not [rule for rule in group["rules"] if "DeadLetters" in rule["alert"]]


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        ({"namespace": "shop", "function_name": "orders"}, "shop/orders"),
        ({"function_name": "catch-all"}, "catch-all"),
    ],
    ids=["a function", "the catch-all queue, whose empty label Prometheus drops"],
)
def test_an_alert_reads_well_and_names_the_command(labels: dict[str, str], place: str, tmp_path: Path) -> None:
    """Helm stands for Prometheus, which fills in the same template language."""
    (group,) = named(render(EVERYTHING), "PrometheusRule")["spec"]["groups"]
    (waiting,) = [rule for rule in group["rules"] if rule["alert"] == "KnativeLambdaDeadLetters"]
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: prometheus, version: 1.0.0}")
    summary = waiting["annotations"]["summary"]
    (tmp_path / "templates" / "alert.txt").write_text("{{ $labels := .Values.labels }}" + summary)
    with helm_python.Chart.load(tmp_path) as chart:
        (said,) = chart.render({"labels": labels}).values()
    assert said == f"Dead letters of {place} wait: kn-lambda dlq show {place}"


def test_the_deployment_is_what_the_design_asks_for() -> None:
    manifests = render()
    spec = named(manifests, "Deployment")["spec"]
    pod, controller = spec["template"]["spec"], container(manifests)
    assert spec["replicas"] == 2
    assert controller["resources"] == {
        "requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"},
    }  # fmt: skip
    probes = {name: controller[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: (probe["path"], probe["port"]) for name, probe in probes.items()} == {
        "startupProbe": ("/livez", "http"), "livenessProbe": ("/livez", "http"), "readinessProbe": ("/readyz", "http"),
    }  # fmt: skip
    assert pod["terminationGracePeriodSeconds"] == 45
    spread = {one["topologyKey"]: one["labelSelector"]["matchLabels"] for one in pod["topologySpreadConstraints"]}
    assert spread == dict.fromkeys(
        ("kubernetes.io/hostname", "topology.kubernetes.io/zone"), spec["selector"]["matchLabels"]
    )
    ports = {one["name"]: one["containerPort"] for one in controller["ports"]}
    assert ports == {"http": 8080, "webhooks": 9292}
    service = named(manifests, "Service")["spec"]
    assert {one["targetPort"]: one["port"] for one in service["ports"]} == ports
    assert service["selector"].items() <= spec["template"]["metadata"]["labels"].items()


def test_monitoring_and_network_policy_are_off_until_somebody_asks() -> None:
    extras = {"ServiceMonitor", "PrometheusRule", "NetworkPolicy", "FunctionRepository", "Secret"}
    assert not extras & {one["kind"] for one in render()}
    monitor = named(render({"serviceMonitor": {"enabled": True}}), "ServiceMonitor")["spec"]
    service = named(render(), "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [(one["port"], one["path"]) for one in monitor["endpoints"]] == [("http", "/metrics")]


def test_reused_values_of_a_release_that_knew_fewer_are_enough(tmp_path: Path) -> None:
    """`helm upgrade --reuse-values` renders new templates with the older release's values and nothing else."""
    older = shutil.copytree(readme.CHART, tmp_path / "chart")
    values = yaml.safe_load((older / "values.yaml").read_text())
    for young in ("deadLetters", "brokers"):
        del values[young]
    for young in ("cluster", "topologySecret"):
        del values["rabbitmq"][young]
    del values["networkPolicy"]["deadLettersFrom"]
    (older / "values.yaml").write_text(yaml.safe_dump(values))

    def rendered(chart: Path, more: Values) -> dict[str, str]:
        with helm_python.Chart.load(chart) as loaded:
            return loaded.render(more, name="knative-lambda", namespace="platform")

    walled: Values = {"networkPolicy": {"enabled": True}, "prometheusRule": {"enabled": True}}
    for more in ({}, walled, walled | BY_AMQP, BROKERS, BY_OPERATOR):
        assert rendered(older, more) == rendered(readme.CHART, more)


def test_one_replica_has_no_disruption_budget() -> None:
    assert "PodDisruptionBudget" not in {one["kind"] for one in render({"replicas": 1})}
    assert named(render({"replicas": 2}), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_kinds_and_repositories_stay_when_the_release_goes() -> None:
    manifests = render({"repositories": EVERYTHING["repositories"]})
    kept = [one for one in manifests if one["kind"] in ("CustomResourceDefinition", "FunctionRepository")]
    assert len(kept) == 3
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in kept} == {"keep"}


def test_the_readme_is_as_generated_and_tells_every_value() -> None:
    text = (readme.CHART / "values.yaml").read_text()
    assert readme.README.read_text() == readme.page(text), "make chart-readme"
    assert "replicas" in {row.path for row in readme.rows(text)}


def test_a_value_without_a_comment_is_found() -> None:
    with pytest.raises(ValueError, match="b has no comment"):
        readme.rows("# told\na: 1\n\nb: 2\n")


def test_versions_agree() -> None:
    chart = yaml.safe_load((readme.CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == knative_lambda.__version__
    pinned = dict(line.split(" := ") for line in (ROOT / "versions.mk").read_text().splitlines() if " := " in line)
    assert f"ARG PYTHON_IMAGE={pinned['PYTHON_IMAGE']}\n" in (ROOT / "controller" / "Dockerfile").read_text()
    assert all(":latest" not in value for value in pinned.values())


def test_the_image_installs_the_versions_that_are_tested() -> None:
    def pins(path: str) -> set[str]:
        return {line.split(" ")[0] for line in (ROOT / path).read_text().splitlines() if "==" in line}

    assert pins("controller/requirements.lock") <= pins("requirements.lock")
    assert pins("controller/build.lock") <= pins("requirements.lock")
    assert not any(pin.startswith(("pytest", "helm", "ruff")) for pin in pins("controller/requirements.lock"))


def test_the_dockerfile_copies_what_is_there_and_not_ignored() -> None:
    lines = (ROOT / "controller" / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from=" not in line]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source for line in copied for source in line]
    assert len(sources) == 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in kept, source
    assert [line for line in lines if line.startswith("USER ")] == ["USER 65532:65532"]
    assert 'ENTRYPOINT ["kn-lambda"]' in lines
