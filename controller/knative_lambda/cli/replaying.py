"""A replay: letters in their pace, ended by Ctrl-C between two of them, given up when nobody answers.

Called by cli.dlq. A letter leaves its queue only after its target accepted it, however the replay ends.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from knative_lambda.cli.failures import Fault
from knative_lambda.events.mailbox import Mailbox, MailboxError, Parked

SLOWEST = 0.02
"""Letters per second. RabbitMQ hears nothing of us between two of them, and gives us up after two minutes."""

_STOPPING = b"stopping after this letter; once more breaks it off\n"


class Recipient(Protocol):
    """cli.target.Target, as far as a replay knows it."""

    problem: str
    answered: bool

    def accepts(self, letter: Parked) -> bool:
        """Whether it took the letter."""
        ...

    def rest(self, seconds: float) -> None:
        """Waits."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, and how long in vain."""

    rate: float
    """Letters per second; 0 is unlimited."""
    give_up_after: int
    """So many deliveries in a row without any answer end the replay; 0 is never."""

    def __post_init__(self) -> None:
        """Raises Fault for a rate that RabbitMQ would not wait for."""
        if self.rate != 0 and not SLOWEST <= self.rate < math.inf:
            raise Fault(
                f"--rate: {self.rate:g} is not possible; {SLOWEST:g} (letters per second) or more, or 0: no limit"
            )


@dataclass(slots=True)
class Outcome:
    """What became of the letters that were there at the start."""

    delivered: int = 0
    refused: int = 0
    problem: str = ""
    """Of the last letter that was not accepted."""
    ended: str = ""
    """Why before the last letter: `interrupted`, `no answer`; empty when none was left out."""


class Interruption:
    """Ctrl-C (or SIGTERM) while letters go out: at once in a pause, else after the letter that is on its way.

    So no letter is interrupted between its delivery and its removal. A second one breaks off at once.
    """

    def __init__(self) -> None:
        self._asked = False
        self._pausing = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Signals mean that, inside."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def pausing(self) -> Iterator[None]:
        """Raises KeyboardInterrupt when it was, or is, asked for in here."""
        self._pausing = True
        try:
            if self._asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._pausing = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked or self._pausing:
            raise KeyboardInterrupt
        self._asked = True
        os.write(2, _STOPPING)  # sys.stderr may be in the middle of a write of its own


class _GaveUp(Exception):
    """Nobody answers."""


@dataclass(slots=True)
class _Run:
    """One replay: what the mailbox calls for each letter."""

    target: Recipient
    pace: Pace
    advance: Callable[[], None]
    interruption: Interruption = field(default_factory=Interruption)
    outcome: Outcome = field(default_factory=Outcome)
    unanswered: int = 0
    next_at: float = 0.0

    def deliver(self, letter: Parked) -> bool:
        if self.pace.give_up_after and self.unanswered >= self.pace.give_up_after:
            raise _GaveUp
        with self.interruption.pausing():
            self._wait()
        accepted = self.target.accepts(letter)
        self._count(accepted)
        self.advance()
        return accepted

    def _wait(self) -> None:
        """Until its turn; time that was lost is not made up for, or a burst would follow a slow delivery."""
        if not self.pace.rate:
            return
        now = time.monotonic()
        if now < self.next_at:
            self.target.rest(self.next_at - now)
        self.next_at = max(now, self.next_at) + 1 / self.pace.rate

    def _count(self, accepted: bool) -> None:
        self.unanswered = 0 if self.target.answered else self.unanswered + 1
        if accepted:
            self.outcome.delivered += 1
            return
        self.outcome.refused += 1
        self.outcome.problem = self.target.problem


def replay(
    mailbox: Mailbox, queue: str, count: int, *, target: Recipient, pace: Pace, advance: Callable[[], None]
) -> Outcome:
    """Sends the oldest `count` letters of a queue; `advance` is called after each.

    Raises Fault when the connection to RabbitMQ breaks meanwhile: what was accepted last may go out again then.
    """
    run = _Run(target, pace, advance)
    try:
        with run.interruption.watched():
            mailbox.drain(queue, count, run.deliver)
    except KeyboardInterrupt:
        run.outcome.ended = "interrupted"
    except _GaveUp:
        run.outcome.ended = "no answer"
    except MailboxError as error:
        taken = f"{run.outcome.delivered} letters were accepted before; the last of them may be sent again next time"
        raise Fault(f"{error}; {taken}") from error
    return run.outcome


@contextlib.contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, on stderr; nothing elsewhere."""
    from rich.progress import Progress

    from knative_lambda.cli.output import console

    with Progress(console=console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("replaying", total=total)
        yield lambda: bar.advance(task)
