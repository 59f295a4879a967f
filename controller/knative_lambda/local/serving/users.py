"""Whose rights functions have. Called by instance.

Where this program runs as root, a function never does if that can be helped: each instance becomes a user of its own,
whom nothing belongs to but the instance's HOME and TMPDIR. That needs folders which others may enter; where the state,
the image or the interpreter lies in a closed one (/root, say), functions keep our rights, and a person is told so once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from knative_lambda.local.building.images import LocalImage
from knative_lambda.local.serving import proc
from knative_lambda.local.serving.processes import PATH

NAMELESS = range(61_184, 65_520)
"""Users that systemd sets aside for services without a name (DynamicUser); no person is one of them."""
OURS = 0
"""The rights of this process."""
RECOUNT = 30.0
"""Seconds for which the number of a person's tasks is believed: counting takes as long as a small start."""


class Users:
    """Hands out one user per instance, or none."""

    def __init__(self, state: Path, *, remark: Callable[[str], None], users: Sequence[int] = NAMELESS) -> None:
        """`remark` is told, in the loop's thread, what a person should know."""
        self._state = state
        self._users = users
        self._remark = remark
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
        """A user whom nobody else is now, or OURS. Who is cancelled has taken nobody. Raises OSError: all are busy."""
        if os.geteuid() != 0:
            return OURS
        closed = await asyncio.to_thread(self._closed, image)
        if closed is not None:
            self._warn(closed)
            return OURS
        return await self._stranger()

    def give_back(self, user: int) -> None:
        self._taken.discard(user)

    def _closed(self, image: LocalImage) -> Path | None:
        """What another user could not enter, of all that a function needs."""
        program = shutil.which(image.command[0], path=image.env.get("PATH", PATH)) or image.command[0]
        return next(closed_to_others([self._state, image.folder, Path(program)]), None)

    async def _stranger(self) -> int:
        """Chosen and taken in one step, for several instances start at once."""
        busy = await asyncio.to_thread(proc.users)
        for user in self._users:
            if user not in self._taken and user not in busy:
                self._taken.add(user)
                return user
        raise OSError("there is no user of its own for one more function")

    def _warn(self, closed: Path) -> None:
        if not self._warned:
            self._warned = True
            self._remark(f"functions run with root's rights, for another user may not enter {closed}")


def closed_to_others(paths: Iterable[Path]) -> Iterator[Path]:
    """The folders and files that another user would not get into, on the way to those paths. Links are followed."""
    for path in paths:
        real = path.resolve()
        for each in (*reversed(real.parents), real):
            if not each.exists() or not each.stat().st_mode & stat.S_IXOTH:
                yield each
                break
