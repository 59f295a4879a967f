"""Which of the machine's processors an instance keeps to. Called by instance, once per start."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbours among the processors that this program may use; the first follows the last."""

    first: int = 0
    """Counted from 0."""
    count: int = 0
    """0 is all of them."""


ALL = Part()


class Processors:
    """Hands them out in turn, and in the first place those that fewest instances keep to."""

    def __init__(self, number: int) -> None:
        """0 where no process can be kept to some."""
        self._uses = [0] * number
        self._next = 0

    def take(self, count: int) -> Part:
        """As many as are asked for, at most all; 0 asks for all."""
        number = len(self._uses)
        if not 0 < count < number:
            return ALL
        turn = [(self._next + step) % number for step in range(number)]
        part = Part(min(turn, key=lambda first: self._load(Part(first, count))), count)
        self._note(part, 1)
        self._next = part.first + count
        return part

    def give_back(self, part: Part) -> None:
        self._note(part, -1)

    def _load(self, part: Part) -> int:
        return sum(self._uses[each] for each in self._members(part))

    def _note(self, part: Part, change: int) -> None:
        for each in self._members(part):
            self._uses[each] += change

    def _members(self, part: Part) -> list[int]:
        return [(part.first + step) % len(self._uses) for step in range(part.count)]


def ours() -> int:
    """How many this program may use; 0 on systems that cannot keep a process to some of them."""
    return len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else 0
