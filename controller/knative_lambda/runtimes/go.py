"""Go functions: functions-framework-go behind our shim, compiled into one static program on an empty image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from knative_lambda.api.function import Language, Runtime
from knative_lambda.runtimes.base import Shipped

SHIPPED = Shipped("go", ("shim.go", "handlers.go", "events.go", "answers.go", "compile/main.go", "go.mod", "go.sum"))
ROOT = "main"
"""Module of a handler in the package at the top of the function's directory, however that package is called."""
_DEPENDENCIES = frozenset({"go.mod", "go.sum"})
_LOCAL = re.compile(rb"=>\s*\"?\.{0,2}/")


class GoRuntime:
    """See base.LanguageRuntime. A handler's module is the directory of its package."""

    language = Language.GO
    images: Mapping[str, str] = {version: f"golang:{version}-alpine" for version in ("1.25", "1.26")}
    code_file = "main.go"
    dependency_file = "go.mod"

    def handler_files(self, module: str) -> Sequence[str]:
        package = _package(module)
        return tuple(file if package == "." else f"{package}/{file}" for file in (self.code_file, "*.go"))

    def context_files(self, runtime: Runtime) -> Mapping[str, bytes]:
        module, function = runtime.entrypoint()
        entry = {"package": _package(module), "function": function}
        return SHIPPED.laid_out(image=self.images[runtime.release()], entry=entry)

    def dependency_files(self, top: Mapping[str, bytes]) -> Mapping[str, bytes] | None:
        """go.mod and go.sum; modules that lie in the function's directory need all of it beside them."""
        chosen = {name: content for name, content in top.items() if name in _DEPENDENCIES}
        if _LOCAL.search(chosen.get("go.mod", b"")):
            return None
        return {"go.mod": b"module function\n", **chosen}


def _package(module: str) -> str:
    return "." if module == ROOT else module.replace(".", "/")
