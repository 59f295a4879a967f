"""A real Helm engine (Helm 4 inside the wheel helm-python-sdk) for one namespace of one cluster."""

from __future__ import annotations

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
    """`helm` for one release in one namespace; values are merged over those that every call shares."""

    def __init__(self, kubeconfig: Path, namespace: str, *, name: str = RELEASE, shared: Values | None = None) -> None:
        self.namespace = namespace
        self.name = name
        self._shared = shared or {}
        self._config = helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace)

    def install(self, values: Values | None = None, **options: Any) -> list[Manifest]:
        """`helm install`; the manifests that it made."""
        made = self._config.install(CHART, self.name, {**self._shared, **(values or {})}, **options)
        return documents(made["manifest"])

    def upgrade(self, values: Values | None = None) -> list[Manifest]:
        """`helm upgrade` with these values only."""
        made = self._config.upgrade(CHART, self.name, {**self._shared, **(values or {})}, reset_values=True)
        return documents(made["manifest"])

    def rollback(self, revision: int) -> None:
        self._config.rollback(self.name, version=revision)

    def uninstall(self) -> None:
        self._config.uninstall(self.name, ignore_not_found=True)

    def history(self) -> list[tuple[int, str]]:
        """(revision, status), oldest first."""
        return [(one["version"], one["status"]) for one in self._config.history(self.name)]

    def notes(self) -> str:
        """What `helm install` prints at the end."""
        found: str = self._config.get_all(self.name)["info"]["notes"]
        return found

    def close(self) -> None:
        self._config.close()
