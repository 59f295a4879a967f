"""Whose rights functions have. Called by instance.

Where this program runs as root, a function never does if that can be helped: each instance becomes a user of its own,
whom nothing belongs to but the instance's HOME and TMPDIR. That needs folders which others may enter; where the state,
the image or the interpreter lies in a closed one (/root, say), functions keep our rights and the log says so once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from knative_lambda.local.building.images import LocalImage
from knative_lambda.local.serving import proc
from knative_lambda.local.serving.processes import PATH

FIRST, LAST = 61_184, 65_519
"""Users that systemd sets aside for services without a name (DynamicUser); no person is one of them."""
OURS = 0
"""The rights of this process."""

log = structlog.get_logger(__name__)


RECOUNT = 30.0
"""Seconds for which the number of a person's tasks is believed: counting takes as long as a small start."""


class Users:
    """Hands out one user per instance, or none."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._taken: set[int] = set()
        self._warned = False
        self._counted: tuple[float, int] = (-RECOUNT, 0)

    async def others(self, user: int) -> int:
        """Tasks of the user that an instance gets besides its own; none of one who is nobody else."""
        if user != OURS:
            return 0
        moment, count = self._counted
        if time.monotonic() - moment >= RECOUNT:
            count = await asyncio.to_thread(proc.tasks_of, os.geteuid())
            self._counted = (time.monotonic(), count)
        return count

    async def take(self, image: LocalImage) -> int:
        """A user whom nobody else is now, or OURS."""
        if os.geteuid() != 0:
            return OURS
        return await asyncio.to_thread(self._stranger, image)

    def give_back(self, user: int) -> None:
        self._taken.discard(user)

    def _stranger(self, image: LocalImage) -> int:
        program = shutil.which(image.command[0], path=image.env.get("PATH", PATH)) or image.command[0]
        closed = next(closed_to_others([self._state, image.folder, Path(program)]), None)
        if closed is not None:
            self._warn(closed)
            return OURS
        user = next((one for one in range(FIRST, LAST) if one not in self._taken and not proc.tasks_of(one)), OURS)
        self._taken.add(user)
        return user

    def _warn(self, closed: Path) -> None:
        if not self._warned:
            self._warned = True
            log.warning("functions run with root's rights: another user may not enter this folder", folder=str(closed))


def closed_to_others(paths: Iterable[Path]) -> Iterator[Path]:
    """The folders and files that another user would not get into, on the way to those paths. Links are followed."""
    for path in paths:
        real = path.resolve()
        for each in (*reversed(real.parents), real):
            if not each.exists() or not each.stat().st_mode & stat.S_IXOTH:
                yield each
                break
