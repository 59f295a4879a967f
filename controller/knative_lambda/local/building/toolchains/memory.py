"""The twin of the port Toolchain: installs nothing and runs nothing, but makes layers and fails as it is told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from knative_lambda.api.function import Runtime
from knative_lambda.local.building import trees
from knative_lambda.local.building.commands import Terms
from knative_lambda.local.building.toolchains.base import Launch, Layer, Place, Plan
from knative_lambda.runtimes.base import DEPENDENCIES

POLL = 0.01


class MemoryToolchain:
    """A language whose dependencies are only written down."""

    def __init__(self) -> None:
        self.installed: list[str] = []
        """Keys of the layers that were made, in order."""
        self.failing: list[Exception] = []
        """What the next installations raise, one each."""
        self.paused = False
        """While true, installations do not end."""
        self.running = 0
        """Installations that are under way."""
        self.notes: tuple[str, ...] = ()
        """Of every plan."""
        self.bytes = 1000
        """Size of a layer."""

    def plan(self, context: Path, runtime: Runtime) -> Plan:
        layer = Layer(f"memory-{trees.identity(context / DEPENDENCIES)[:16]}", partial(self._fill, context))
        return Plan(runtime=runtime.language.value, layers=(layer,), launch=_launch, notes=self.notes)

    def _fill(self, context: Path, place: Place, terms: Terms) -> None:
        self.running += 1
        try:
            self._install(context, place, terms)
        finally:
            self.running -= 1

    def _install(self, context: Path, place: Place, terms: Terms) -> None:
        (place.made / "begun").write_text(str(context))
        while self.paused:
            terms.check()
            terms.stop.wait(POLL)
        terms.check()
        if self.failing:
            raise self.failing.pop(0)
        (place.made / "content").write_bytes(bytes(self.bytes))
        self.installed.append(place.final.parent.name)


def _launch(app: Path, layers: Sequence[Path]) -> Launch:
    return Launch((sys.executable, "-m", "http.server", str(app)), {"LAYER": str(layers[0])})
