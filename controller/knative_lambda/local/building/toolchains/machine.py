"""The languages of this machine. Called by builder."""

from __future__ import annotations

from collections.abc import Mapping

from knative_lambda.api.function import Language
from knative_lambda.local.building.toolchains import go, nodejs, python
from knative_lambda.local.building.toolchains.base import Toolchain


def toolchains(environment: Mapping[str, str]) -> dict[Language, Toolchain]:
    """One per language that has a runtime; `environment` is what installers get, as commands.cleaned leaves it.

    A language whose programs are missing is among them: it says so when a function needs it.
    """
    return {
        Language.PYTHON: python.PythonToolchain(environment, uv=python.find_uv(environment)),
        Language.GO: go.GoToolchain(environment),
        Language.NODEJS: nodejs.NodejsToolchain(environment),
    }
