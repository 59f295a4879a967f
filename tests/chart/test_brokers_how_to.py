"""docs/how-to/brokers.md: its commands for kubectl and helm, on a real API server."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from knative_lambda import settings
from knative_lambda.api.meta import Key
from knative_lambda.resources import broker
from knative_lambda.resources.broker import BrokerSettings
from knative_lambda.wiring import adapters
from tests.apiserver.stage import Stage
from tests.chart.engine import Helm, Values, helm_command
from tests.testbed import assets
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.kubernetes import KubernetesBed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "brokers.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
_NAMESPACE = re.compile(r"-n [a-z-]+")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a shell who types what the page says, with the test's namespace for every one that it names."""

    stage: Stage
    kubeconfig: Path
    folder: Path

    def types(self, block: str) -> str:
        """What was printed."""
        try:
            kubectl = assets.kubectl()
        except Unavailable as gap:
            give_up(gap.reason)
        helm_command(self.folder, self.kubeconfig)
        path = f"{self.folder}{os.pathsep}{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", _NAMESPACE.sub(f"-n {self.stage.namespace}", block)],
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig), "PATH": path},
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def wants(self) -> BrokerSettings:
        """What the controller of the release, as it is now, would make."""
        config = f"/api/v1/namespaces/{self.stage.namespace}/configmaps/knative-lambda-operator"
        file = self.folder / "settings.yaml"
        file.write_text(self.stage.api.get(config)["data"]["settings.yaml"])
        wanted = adapters.reconcile_settings(settings.load(file=file)).brokers
        assert wanted is not None
        return wanted


def test_the_commands_of_the_page_work_and_its_values_name_its_rabbitmq(
    kubernetes_bed: KubernetesBed, stage: Stage, helm: Helm, tmp_path: Path
) -> None:
    by_cluster, by_secret, look, delete = BLOCKS
    person = Person(stage, kubernetes_bed.kubeconfig, tmp_path)
    cluster: dict[str, Any] = yaml.safe_load(
        "{apiVersion: rabbitmq.com/v1beta1, kind: RabbitmqCluster, metadata: {name: main}, spec: {}}"
    )
    stage.api.create(f"/apis/rabbitmq.com/v1beta1/namespaces/{stage.namespace}/rabbitmqclusters", cluster)
    before: Values = {"watchNamespaces": [stage.namespace]}
    helm.install(before)
    assert "annotated" in person.types(by_cluster)
    wanted = person.wants()
    assert str(wanted.cluster) == "rabbitmq/main"

    helm.upgrade(before)
    assert "annotated" in person.types(by_secret)
    secret = stage.api.get(stage.path("secrets", "rabbitmq-connection"))
    assert secret["metadata"]["labels"]["rabbitmq.com/topology-operator"] == "true"
    assert secret["metadata"]["annotations"]["rabbitmq.com/topology-allowed-namespaces"] == "*"
    assert base64.b64decode(secret["data"]["uri"]) == b"rabbitmq.rabbitmq.svc:15672", "Knative knows no scheme"
    assert str(person.wants().connection_secret) == f"{stage.namespace}/rabbitmq-connection"

    default = stage.apply("brokers", broker.manifest(Key(stage.namespace, "default"), wanted))
    assert f"broker.eventing.knative.dev/{default['metadata']['name']}" in person.types(look)
    assert "deleted" in person.types(delete)
    stage.wait_gone("brokers", "default")
