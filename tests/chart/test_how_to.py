"""docs/how-to/install-kind.md: what needs no docker is run, and every value that it and dead-letters.md set exists."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import helm_python
import pytest
import yaml

from tests.chart.conftest import HelmFor
from tests.chart.engine import helm_command, render
from tests.chart.readme import CHART
from tests.chart.test_operator import Pod
from tests.testbed import assets
from tests.testbed.errors import Unavailable
from tests.testbed.fixtures import give_up
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.processes import wait_until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "install-kind.md"
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SET = re.compile(r"--set '?([A-Za-z.]+=[^\s'`]+)")


@pytest.fixture
def namespaces(kubernetes_bed: KubernetesBed) -> Iterator[KubernetesBed]:
    """The two namespaces of the page, gone afterwards."""
    kubernetes_bed.create_namespace("knative-lambda")
    yield kubernetes_bed
    for name in ("shop", "knative-lambda"):
        if kubernetes_bed.api.find(f"/api/v1/namespaces/{name}") is not None:
            kubernetes_bed.delete_namespace(name)


@pytest.mark.usefixtures("standins")
def test_the_commands_of_the_page_work(namespaces: KubernetesBed, helm_for: HelmFor, tmp_path: Path) -> None:
    try:
        kubectl = assets.kubectl()
    except Unavailable as gap:
        give_up(gap.reason)
    helm_command(tmp_path, namespaces.kubeconfig)
    path = f"{tmp_path}{os.pathsep}{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"KUBECONFIG": str(namespaces.kubeconfig), "PATH": path}

    def types(block: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    look, function, *upgrades, uninstall = _SHELL.findall(PAGE.read_text())
    release = "/apis/apps/v1/namespaces/knative-lambda/deployments/knative-lambda-operator"
    config = "/api/v1/namespaces/knative-lambda/configmaps/knative-lambda-operator"
    pod = Pod(namespaces, helm_for("knative-lambda").install({"replicas": 1}), tmp_path)
    try:
        said = types(look)
        assert "webhook_port: 9292" in said
        assert "functionrepositories" in said
        assert "lambdafunction.lambda.knative.io/hello condition met" in types(function)
        for block in upgrades:
            types(block)
        settings = yaml.safe_load(namespaces.api.get(config)["data"]["settings.yaml"])
        assert (settings["events"], settings["dead_letters"], settings["create_brokers"]) == ("rabbitmq", "amqp", True)
        assert namespaces.api.get(release)["spec"]["replicas"] == 1, "earlier values are kept"
        hello = "/apis/lambda.knative.io/v1alpha1/namespaces/shop/lambdafunctions/hello"
        namespaces.api.delete(hello)
        wait_until(lambda: namespaces.api.find(hello) is None, what="the function's deletion", timeout=30)
        assert pod.gate.forbidden == []
    finally:
        pod.close()
    types(uninstall)
    assert namespaces.api.find(release) is None


def test_only_what_needs_docker_is_not_run() -> None:
    every = re.findall(r"^```([a-z]*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert {language for language, _ in every} == {"sh", ""}
    assert [block for language, block in every if not language] == [
        "make kind-up\n",
        "make deploy\n",
        "make kind-down\n",
    ]


@pytest.mark.parametrize("page", ["install-kind.md", "dead-letters.md"])
def test_every_value_that_a_page_sets_exists(page: str) -> None:
    """What stands in one command is set together, in a release that has RabbitMQ."""
    commands = (PAGE.parent / page).read_text().replace("\\\n", "").splitlines()
    named = [found for found in map(_SET.findall, commands) if found]
    assert len(named) >= 3
    for expressions in named:
        together = ",".join(["rabbitmq.existingSecret.name=rabbitmq-url", *expressions])
        assert render(helm_python.parse_set_string(together)), together


@pytest.mark.parametrize("target", ["kind-up", "deploy", "kind-down", "image"])
def test_make_says_what_is_missing(target: str, tmp_path: Path) -> None:
    """PATH has nothing but what make itself needs, and then a docker that runs."""
    for name in ("bash", "git", "make"):
        found = next(Path(part) / name for part in os.environ["PATH"].split(os.pathsep) if (Path(part) / name).exists())
        (tmp_path / name).symlink_to(found)

    def make() -> tuple[int, str]:
        done = subprocess.run(
            [str(tmp_path / "make"), target], cwd=ROOT, env={"PATH": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    code, said = make()
    assert code != 0
    assert f"make {target.replace('deploy', 'image')} needs docker on PATH; docs/how-to/install-kind.md" in said
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/bash\n[ $1 != info ]\n")
    docker.chmod(0o755)
    if target in ("kind-up", "kind-down"):
        assert f"make {target} needs kind on PATH; docs/how-to/install-kind.md" in make()[1]
    else:
        assert "needs a running docker: 'docker info' fails" in make()[1]


def test_cluster_registry_and_chart_speak_of_one_registry_and_versions_are_pinned_in_one_file() -> None:
    """The kind recipe: nodes look in a folder of containerd for the host that they pull from."""
    makefile = (ROOT / "Makefile").read_text()
    kind = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    build = yaml.safe_load((CHART / "values-kind.yaml").read_text())["build"]
    (patch,) = kind["containerdConfigPatches"]
    folder = re.findall(r'config_path = "(.*)"', patch)[0]
    assert f"mkdir -p {folder}/{build['registry']};" in makefile
    assert f"{folder}/{build['registry']}/hosts.toml" in makefile
    registry, port = build["pushRegistry"].split(":")
    assert build["insecureRegistries"] == [build["pushRegistry"]]
    assert f"REGISTRY := {registry}\n" in makefile
    assert f"http://$(REGISTRY):{port}" in makefile
    assert f"-p 127.0.0.1:{build['registry'].partition(':')[2]}:{port} " in makefile
    assert f"KIND_CLUSTER := {kind['name']}\n" in makefile
    recipes = makefile[makefile.index("image: ##") :]
    assert re.findall(r"v[0-9]+\.[0-9]+|:[0-9]+\.[0-9]+\.[0-9]+|:latest", recipes) == []
