"""Every language and version that can be built, and the builder's identity. Called by wiring and sources.context."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from knative_lambda.api.function import Language
from knative_lambda.kit import digest
from knative_lambda.runtimes import go, nodejs, python
from knative_lambda.runtimes.base import LanguageRuntime

RUNTIMES: Mapping[Language, LanguageRuntime] = MappingProxyType(
    {Language.PYTHON: python.PythonRuntime(), Language.NODEJS: nodejs.NodejsRuntime(), Language.GO: go.GoRuntime()}
)


def versions() -> dict[Language, tuple[str, ...]]:
    """Language -> versions, oldest first."""
    return {language: tuple(runtime.images) for language, runtime in RUNTIMES.items()}


def supported(language: Language, version: str) -> bool:
    """Whether that very version is built."""
    return version in versions().get(language, ())


@cache
def builder_version() -> str:
    """Part of every build's identity: changes with any shipped file and any base image, so no release forgets it."""
    files = {shipped.folder: shipped.all() for shipped in (python.SHIPPED, nodejs.SHIPPED, go.SHIPPED)}
    return identity(files, {language.value: runtime.images for language, runtime in RUNTIMES.items()})


def identity(files: Mapping[str, Mapping[str, bytes]], images: Mapping[str, Mapping[str, str]]) -> str:
    """16 hex characters over the files (folder -> name -> content) and images (language -> version -> image)."""
    texts = {folder: {name: content.decode() for name, content in each.items()} for folder, each in files.items()}
    return digest.short("builder", texts, {language: dict(each) for language, each in images.items()}, length=16)
