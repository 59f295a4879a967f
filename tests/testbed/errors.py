"""What the test bed raises. Fixtures turn Unavailable into a skip; everything else is a failure."""

from __future__ import annotations


class Unavailable(Exception):
    """This machine cannot run a part of the bed. `reason` says what is missing and what would help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BedError(RuntimeError):
    """A part of the bed was started and did not do what it should; the text ends with its last log lines."""
