"""The namespace that kubectl would use: the one thing of a kubeconfig that the cluster port does not hand out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from knative_lambda.cli.failures import Fault

DEFAULT_NAMESPACE = "default"


def namespace(kubeconfig: Path | None, context: str | None) -> str:
    """Namespace of the context, of the current one when none is named; `default` where nothing says anything."""
    for file in files(kubeconfig):
        config = read(file)
        wanted = context or config.get("current-context")
        for one in config.get("contexts") or ():
            if one.get("name") == wanted:
                return str((one.get("context") or {}).get("namespace") or DEFAULT_NAMESPACE)
    return DEFAULT_NAMESPACE


def files(kubeconfig: Path | None) -> list[Path]:
    """Those that are there, in kubectl's order: the flag, else $KUBECONFIG (which may be a list), else the home's."""
    if kubeconfig is not None:
        return [kubeconfig]
    listed = os.environ.get("KUBECONFIG", "")
    paths = [Path(part) for part in listed.split(os.pathsep) if part] or [Path.home() / ".kube" / "config"]
    return [path for path in paths if path.is_file()]


def read(file: Path) -> dict[str, Any]:
    """The whole of it. Raises Fault for what is none, OSError."""
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise Fault(f"{file} is not a kubeconfig: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(config, dict):
        raise Fault(f"{file} is not a kubeconfig: it holds no mapping")
    return config
