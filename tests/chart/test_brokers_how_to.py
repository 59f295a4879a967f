"""docs/how-to/brokers.md: its commands for kubectl on a real API server, its values for helm in the chart."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import helm_python
import yaml

from knative_lambda import settings
from knative_lambda.api.meta import Key
from knative_lambda.resources import broker
from knative_lambda.resources.broker import BrokerSettings
from knative_lambda.wiring import adapters
from tests.apiserver.stage import Stage
from tests.chart.engine import named, render
from tests.testbed import assets
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.kubernetes import KubernetesBed

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "brokers.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
_NAMESPACE = re.compile(r"-n [a-z-]+")
_HELM = re.compile(r"^helm (?:.*\\\n)*.*\n", re.MULTILINE)


def types(bed: KubernetesBed, namespace: str, block: str) -> str:
    """What a person's kubectl prints, with the test's namespace for everyone the page names."""
    try:
        kubectl = assets.kubectl()
    except Unavailable as gap:
        give_up(gap.reason)
    path = f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _NAMESPACE.sub(f"-n {namespace}", _HELM.sub("", block))],
        env=os.environ | {"KUBECONFIG": str(bed.kubeconfig), "PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def asked(block: str, folder: Path) -> BrokerSettings | None:
    """What the controller of a release with the block's values would make."""
    (command,) = _HELM.findall(block)
    values: dict[str, Any] = helm_python.parse_set_string(",".join(re.findall(r"--set (\S+)", command)))
    file = folder / "settings.yaml"
    file.write_text(named(render(values, namespace="knative-lambda"), "ConfigMap")["data"]["settings.yaml"])
    return adapters.reconcile_settings(settings.load(file=file)).brokers


def test_the_commands_of_the_page_work_and_its_values_name_its_rabbitmq(
    kubernetes_bed: KubernetesBed, stage: Stage, tmp_path: Path
) -> None:
    by_cluster, by_secret, look, delete = BLOCKS
    cluster: dict[str, Any] = yaml.safe_load(
        "{apiVersion: rabbitmq.com/v1beta1, kind: RabbitmqCluster, metadata: {name: main}, spec: {}}"
    )
    stage.api.create(f"/apis/rabbitmq.com/v1beta1/namespaces/{stage.namespace}/rabbitmqclusters", cluster)
    assert "annotated" in types(kubernetes_bed, stage.namespace, by_cluster)
    wanted = asked(by_cluster, tmp_path)
    assert wanted is not None
    assert str(wanted.cluster) == "rabbitmq/main"

    assert "annotated" in types(kubernetes_bed, stage.namespace, by_secret)
    secret = stage.api.get(stage.path("secrets", "rabbitmq-connection"))["metadata"]
    assert secret["labels"]["rabbitmq.com/topology-operator"] == "true"
    assert secret["annotations"]["rabbitmq.com/topology-allowed-namespaces"] == "*"
    by_connection = asked(by_secret, tmp_path)
    assert by_connection is not None
    assert str(by_connection.connection_secret) == "knative-lambda/rabbitmq-connection"

    default = stage.apply("brokers", broker.manifest(Key(stage.namespace, "default"), wanted))
    assert f"broker.eventing.knative.dev/{default['metadata']['name']}" in types(kubernetes_bed, stage.namespace, look)
    assert "deleted" in types(kubernetes_bed, stage.namespace, delete)
    stage.wait_gone("brokers", "default")
