"""Code that stands in the object itself, brought to disk. Called by context."""

from __future__ import annotations

from pathlib import Path

from knative_lambda.api.function import InlineSource, Runtime
from knative_lambda.runtimes import catalog
from knative_lambda.sources import identity, tree
from knative_lambda.sources.base import Resolution


def write(source: InlineSource, runtime: Runtime, into: Path) -> Resolution:
    """Code into the handler's file, dependencies into the language's."""
    language = catalog.RUNTIMES[runtime.language]
    module, _ = runtime.entrypoint()
    tree.write_file(into, language.handler_files(module)[0], source.code.encode())
    if source.dependencies:
        tree.write_file(into, language.dependency_file, source.dependencies.encode())
    return identity.of_inline(source)
