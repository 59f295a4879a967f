"""A real Helm engine (Helm 4 inside the wheel helm-python-sdk) for one namespace of one cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tests.chart.readme import CHART

Manifest = dict[str, Any]
Values = dict[str, Any]
RELEASE = "knative-lambda"
CORE = {"crds": {"install": False}}
"""Values for the shared bed, which has our kinds from elsewhere."""

_COMMAND = """\
import sys
import helm_python
_, _, namespace, verb, release, *rest = sys.argv
with helm_python.Config(kubeconfig_path=KUBECONFIG, namespace=namespace) as helm:
    if (verb, rest) == ("uninstall", []):
        helm.uninstall(release)
    else:
        chart, flag, *rest = rest
        assert (verb, flag) == ("upgrade", "--reuse-values") and set(rest[::2]) == {"--set"}, sys.argv
        helm.upgrade(chart, release, helm_python.parse_set_string(",".join(rest[1::2])), reuse_values=True)
"""


def helm_command(folder: Path, kubeconfig: Path) -> None:
    """A `helm` for the PATH: the engine behind the few forms of the command that the docs use."""
    file = folder / "helm"
    file.write_text(f"#!{sys.executable}\nKUBECONFIG = {str(kubeconfig)!r}\n{_COMMAND}")
    file.chmod(0o755)


def render(values: Values | None = None, *, namespace: str = "platform") -> list[Manifest]:
    """`helm template`: every manifest, hooks too."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values or {}, name=RELEASE, namespace=namespace)
    return [one for path, text in sorted(files.items()) if path.endswith(".yaml") for one in documents(text)]


def documents(text: str) -> list[Manifest]:
    """The manifests of a stream."""
    return [one for one in yaml.safe_load_all(text) if one]


def named(manifests: list[Manifest], kind: str) -> Manifest:
    """The one of that kind."""
    (found,) = [one for one in manifests if one["kind"] == kind]
    return found


class Helm:
    """`helm` for one release in one namespace; values are merged over those that every call shares.

    Every call is a Helm of its own, as a command is: what one saw of the cluster, the next does not remember.
    """

    def __init__(self, kubeconfig: Path, namespace: str, *, name: str = RELEASE, shared: Values | None = None) -> None:
        self.namespace = namespace
        self.name = name
        self._kubeconfig = kubeconfig
        self._shared = shared or {}

    def install(self, values: Values | None = None, *, chart: Path = CHART) -> list[Manifest]:
        """`helm install`; the manifests that it made."""
        with self._command() as helm:
            return documents(helm.install(chart, self.name, self._merged(values))["manifest"])

    def upgrade(self, values: Values | None = None) -> list[Manifest]:
        """`helm upgrade` with these values only."""
        with self._command() as helm:
            return documents(helm.upgrade(CHART, self.name, self._merged(values), reset_values=True)["manifest"])

    def rollback(self, revision: int) -> None:
        with self._command() as helm:
            helm.rollback(self.name, version=revision)

    def uninstall(self) -> None:
        """Nothing to uninstall is fine."""
        with self._command() as helm:
            helm.uninstall(self.name, ignore_not_found=True)

    def history(self) -> list[str]:
        """The status of each revision, oldest first."""
        with self._command() as helm:
            return [one["status"] for one in helm.history(self.name)]

    def notes(self) -> str:
        """What `helm install` prints at the end."""
        with self._command() as helm:
            found: str = helm.get_all(self.name)["info"]["notes"]
        return found

    def _command(self) -> helm_python.Config:
        return helm_python.Config(kubeconfig_path=self._kubeconfig, namespace=self.namespace)

    def _merged(self, values: Values | None) -> Values:
        return {**self._shared, **(values or {})}
