"""What a build context's Dockerfile says of a function's build and start, for those without a container. Pure.

The Dockerfile is ours, never a user's. Called by the toolchains, so that a function is started here as it is there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

HOME = "/app"
"""Where an image has what the function's folder has here."""
_CMD, _ENV, _FROM = "CMD ", "ENV ", "FROM "


def command(dockerfile: str) -> tuple[str, ...]:
    """The words of CMD; ValueError for a Dockerfile that has none in JSON's form."""
    lines = [line for line in dockerfile.splitlines() if line.startswith(_CMD)]
    if not lines:
        raise ValueError("the Dockerfile has no CMD")
    words = json.loads(lines[-1].removeprefix(_CMD))
    return tuple(str(word) for word in words)


def moved(words: Sequence[str], app: Path) -> tuple[str, ...]:
    """The words with this machine's folder where they name the image's."""
    return tuple(word.replace(f"{HOME}/", f"{app}/") for word in words)


def environment(dockerfile: str) -> dict[str, str]:
    """What ENV says for the building, that is in the first stage."""
    stages = 0
    found: dict[str, str] = {}
    for line in dockerfile.splitlines():
        stages += line.startswith(_FROM)
        if line.startswith(_ENV) and stages == 1:
            found |= dict(word.partition("=")[::2] for word in shlex.split(line.removeprefix(_ENV)))
    return found
