"""What a language needs to know of itself for a build. Implemented by python, nodejs and go, listed by catalog."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from knative_lambda.api.function import Language, Runtime

DOCKERFILE = "Dockerfile"
RUNTIME = "runtime"
"""Directory of the build context with the shim, its pinned dependencies and runtime.json."""
FUNCTION = "function"
"""Directory of the build context with the user's code."""
DEPENDENCIES = "dependencies"
"""Directory of the build context with what the dependencies are installed from; a layer of its own."""


class LanguageRuntime(Protocol):
    """One language. Everything is pure but `context_files`, which reads what this package ships."""

    @property
    def language(self) -> Language: ...

    @property
    def images(self) -> Mapping[str, str]:
        """Version of the language -> base image, oldest first. Fixed: no user's text ever becomes an image name."""
        ...

    @property
    def code_file(self) -> str:
        """Where inline code goes, unless the handler names another module."""
        ...

    @property
    def dependency_file(self) -> str:
        """Where inline dependencies go."""
        ...

    def handler_files(self, module: str) -> Sequence[str]:
        """Files, relative to the function's directory, of which one must be there for a handler in `module`.

        The first is a name, where inline code goes; later ones may be patterns.
        """
        ...

    def context_files(self, runtime: Runtime) -> Mapping[str, bytes]:
        """Path in the build context -> content, of all that is not the user's: Dockerfile, shim, runtime.json."""
        ...

    def dependency_files(self, top: Mapping[str, bytes]) -> Mapping[str, bytes] | None:
        """Of the files at the top of the function's directory, those that dependencies are installed from.

        None when they point at other files of the function, so that all of it is needed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Shipped:
    """The files of one language in this package, by their folder's name."""

    folder: str
    names: tuple[str, ...]
    """Without the Dockerfile."""

    def read(self, name: str) -> bytes:
        return resources.files("knative_lambda.runtimes").joinpath("files", self.folder, name).read_bytes()

    def all(self) -> dict[str, bytes]:
        """Name -> content, for the builder's version."""
        return {name: self.read(name) for name in (DOCKERFILE, *self.names)}

    def laid_out(self, *, image: str, entry: Mapping[str, object]) -> dict[str, bytes]:
        """The context's files; `image` comes from a table of ours, `entry` is what the shim reads."""
        base = f"ARG BASE_IMAGE={image}\n".encode()
        return {
            DOCKERFILE: base + self.read(DOCKERFILE),
            **{f"{RUNTIME}/{name}": self.read(name) for name in self.names},
            f"{RUNTIME}/runtime.json": json.dumps(entry, indent=2, sort_keys=True).encode() + b"\n",
        }
