"""The port to the languages of this machine. Implemented by python and nodejs, and by memory, its twin.

A plan says which layers a function needs and how it is started; a layer is a folder of installed dependencies that is
known by the digest of all that decides about it, so that functions share it. Called by workshop and images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from knative_lambda.api.function import Runtime
from knative_lambda.local.building.commands import CommandFailed, Terms

LOOPBACK = "127.0.0.1"
"""Where functions listen."""
NOT_FOUND = 127
"""What a shell says of a program that is not there."""


class ToolchainMissing(CommandFailed):
    """This machine lacks a program that the language needs; the message says which, and where to get it."""

    def __init__(self, tool: str, message: str) -> None:
        super().__init__(tool, NOT_FOUND, message)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer is made, and where it will be: programs write down where they are."""

    made: Path
    final: Path
    parent: Path | None
    """The parent's folder, of which `made` began as a copy."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One folder of dependencies."""

    key: str
    """Its identity, fit for a file's name."""
    fill: Callable[[Place, Terms], None] = field(repr=False)
    """Installs; raises CommandFailed, Stopped and Expired."""
    parent: Layer | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """How the server of a function is started."""

    command: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes a build context runnable."""

    runtime: str
    """Language and version that it will run with."""
    layers: tuple[Layer, ...]
    launch: Callable[[Path, Sequence[Path]], Launch] = field(repr=False)
    """Of the function's folder (with `runtime` and `function` in it) and the layers' folders."""
    links: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Path in the function's folder -> number of a layer, and the path in it that it leads to."""
    notes: tuple[str, ...] = ()
    """What differs from an image, for the build's log."""


class Toolchain(Protocol):
    """One language. For several threads at a time."""

    def plan(self, context: Path, runtime: Runtime) -> Plan:
        """Of a build context as sources.context lays it out; raises ToolchainMissing. Installs nothing yet."""
        ...
