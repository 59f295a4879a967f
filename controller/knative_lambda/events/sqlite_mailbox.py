"""Parked letters in local mode's file, for a command line; `kn-lambda dev` may write meanwhile. Made by cli.dlq."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from knative_lambda.events import sqlite, sqlite_letters
from knative_lambda.events.mailbox import MailboxError, Parked
from knative_lambda.kit.clock import Clock, SystemClock

_OLDEST = """SELECT number, body, content_type, headers FROM letter
    WHERE queue = ? AND number > ? ORDER BY number LIMIT ?"""


class SqliteMailbox:
    """The port over a file."""

    def __init__(self, path: Path, *, clock: Clock = SystemClock()) -> None:  # noqa: B008 - has no state
        """Opens. Raises MailboxError, also for a file that is not there: looking makes none."""
        if not path.is_file():
            raise MailboxError(f"there are no dead letters in {path}: kn-lambda dev makes that file when it starts")
        try:
            self._connection = sqlite_letters.open_file(path)
        except sqlite.StateError as error:
            raise MailboxError(str(error)) from error
        with _told(), sqlite.transaction(self._connection):
            sqlite_letters.expire(self._connection, clock.now())

    def depth(self, queue: str) -> int | None:
        """As the port says."""
        with _told():
            if not self._connection.execute("SELECT 1 FROM queue WHERE name = ?", (queue,)).fetchone():
                return None
            [count] = self._connection.execute("SELECT count(*) FROM letter WHERE queue = ?", (queue,)).fetchone()
        return int(count)

    def peek(self, queue: str, limit: int) -> list[Parked]:
        """As the port says."""
        return [letter for _, letter in self._oldest(queue, after=0, limit=limit)]

    def drain(self, queue: str, limit: int, deliver: Callable[[Parked], bool]) -> tuple[int, int]:
        """As the port says. Each letter is read when its turn comes and removed before the next."""
        delivered = left = last = 0
        while delivered + left < limit and (found := self._oldest(queue, after=last, limit=1)):
            [(last, letter)] = found
            if deliver(letter):
                self._remove(last)
                delivered += 1
            else:
                left += 1
        return delivered, left

    def purge(self, queue: str) -> int:
        """As the port says."""
        with _told(), sqlite.transaction(self._connection):
            return self._connection.execute("DELETE FROM letter WHERE queue = ?", (queue,)).rowcount

    def close(self) -> None:
        """As the port says."""
        self._connection.close()

    def _oldest(self, queue: str, *, after: int, limit: int) -> list[tuple[int, Parked]]:
        with _told():
            rows = self._connection.execute(_OLDEST, (queue, after, limit)).fetchall()
        return [(number, Parked(body, kind, orjson.loads(headers))) for number, body, kind, headers in rows]

    def _remove(self, number: int) -> None:
        with _told(), sqlite.transaction(self._connection):
            self._connection.execute("DELETE FROM letter WHERE number = ?", (number,))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise MailboxError(f"the file of dead letters cannot be used: {error}") from error
