"""Node.js functions: @google-cloud/functions-framework behind our shim, on the slim image of each version."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from knative_lambda.api.function import Language, Runtime
from knative_lambda.runtimes.base import Shipped

SHIPPED = Shipped("nodejs", ("knative-lambda-shim.cjs", "package.json", "package-lock.json"))
SUFFIXES = (".js", ".mjs", ".cjs", ".ts")
_DEPENDENCIES = frozenset({"package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"})
_LOCAL = re.compile(rb'"(file:|link:|workspaces"\s*:|(pre|post)?install"\s*:|prepare"\s*:)')
_NONE: Mapping[str, bytes] = {
    "package.json": json.dumps({"name": "function", "version": "1.0.0", "private": True}).encode()
}


class NodejsRuntime:
    """See base.LanguageRuntime."""

    language = Language.NODEJS
    images: Mapping[str, str] = {version: f"node:{version}-slim" for version in ("20", "22", "24")}
    code_file = "index.js"
    dependency_file = "package.json"

    def handler_files(self, module: str) -> Sequence[str]:
        return tuple(f"{module}{suffix}" for suffix in SUFFIXES)

    def context_files(self, runtime: Runtime) -> Mapping[str, bytes]:
        module, function = runtime.entrypoint()
        entry = {"files": list(self.handler_files(module)), "function": function}
        return SHIPPED.laid_out(image=self.images[runtime.release()], entry=entry)

    def dependency_files(self, top: Mapping[str, bytes]) -> Mapping[str, bytes] | None:
        """package.json and its lock; local packages and install scripts need the whole function beside them."""
        chosen = {name: content for name, content in top.items() if name in _DEPENDENCIES}
        if any(_LOCAL.search(content) for content in chosen.values()):
            return None
        return {**_NONE, **chosen}
