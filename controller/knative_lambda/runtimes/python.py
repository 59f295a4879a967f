"""Python functions: functions-framework behind our shim, on the slim image of each version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from knative_lambda.api.function import Language, Runtime
from knative_lambda.runtimes.base import Shipped

SHIPPED = Shipped("python", ("knative_lambda_shim.py", "requirements.txt"))
_DEPENDENCIES = re.compile(r"^(requirements|constraints)[\w.-]*\.(txt|in)$")
_INCLUDE = re.compile(rb"^\s*(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)", re.MULTILINE)
_LOCAL = re.compile(rb"^\s*(-e\b|--editable\b|\.|/|file:|[^#\n]*@\s*file:|[^#\n]*\.(whl|tar\.gz|zip)\b)", re.MULTILINE)


class PythonRuntime:
    """See base.LanguageRuntime."""

    language = Language.PYTHON
    images: Mapping[str, str] = {version: f"python:{version}-slim" for version in ("3.11", "3.12", "3.13", "3.14")}
    code_file = "main.py"
    dependency_file = "requirements.txt"

    def handler_files(self, module: str) -> Sequence[str]:
        path = _dotted(module).replace(".", "/")
        return (f"{path}.py", f"{path}/__init__.py")

    def context_files(self, runtime: Runtime) -> Mapping[str, bytes]:
        module, function = runtime.entrypoint()
        entry = {"module": _dotted(module), "function": function}
        return SHIPPED.laid_out(image=self.images[runtime.release()], entry=entry)

    def dependency_files(self, top: Mapping[str, bytes]) -> Mapping[str, bytes] | None:
        """requirements.txt and whatever it may include; pip is told of an empty one when there is none."""
        chosen = {name: content for name, content in top.items() if _DEPENDENCIES.match(name)}
        if any(_LOCAL.search(content) or _includes(content) - set(chosen) for content in chosen.values()):
            return None
        return {self.dependency_file: b"", **chosen}


def _includes(content: bytes) -> set[str]:
    return {name.decode(errors="replace").removeprefix("./") for name in _INCLUDE.findall(content)}


def _dotted(module: str) -> str:
    return module.replace("/", ".")
