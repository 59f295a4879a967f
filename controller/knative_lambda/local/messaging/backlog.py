"""Accepted events on disk, until every Trigger that wants them is done with them. Called by lanes.

An event is in the file once, with a row for every queue that it waits in; the last row takes it along. A queue is that
of a Trigger, by name: after a restart the Trigger is made again and finds what waited for its predecessor.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import orjson
import structlog

from knative_lambda.api.meta import Key
from knative_lambda.events import sqlite

STEPS: sqlite.Steps = (
    (
        """CREATE TABLE event (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            hops INTEGER NOT NULL,
            headers TEXT NOT NULL,
            body BLOB NOT NULL,
            accepted REAL NOT NULL
        )""",
        """CREATE TABLE delivery (
            queue TEXT NOT NULL,
            event INTEGER NOT NULL REFERENCES event (number),
            PRIMARY KEY (queue, event)
        ) WITHOUT ROWID""",
        "CREATE INDEX delivery_of_event ON delivery (event)",
    ),
)
KEPT_SECONDS = 7 * 24 * 3600
"""Events that wait for a Trigger which never came back are removed at a start after so long, as dead letters are."""

_PAGE = 4096  # bytes; SQLite's default
_NEXT = """SELECT number, hops, headers, body FROM delivery JOIN event ON number = event
    WHERE queue = ? AND event > ? ORDER BY event LIMIT ?"""
_UNWANTED = "DELETE FROM event WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM delivery WHERE event = ?1)"
_ALL_UNWANTED = "DELETE FROM event WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE event = number)"

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class BacklogError(Exception):
    """The disk does not do what it should; the text is safe to show."""


class BacklogFull(BacklogError):
    """There is no room for another event."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One event as it waits in a queue."""

    number: int
    """Grows with every event."""
    hops: int
    """Replies that led to it, from an event that somebody sent."""
    headers: Mapping[str, str]
    """Of binary mode, names in lower case; with the trace that it came with."""
    body: bytes


class Backlog:
    """The file, which is opened at once."""

    def __init__(self, path: Path, *, limit_bytes: int, now: datetime) -> None:
        """Raises sqlite.StateError."""
        connection = sqlite.connect(path, STEPS)
        try:
            _tidy(connection, now, limit_bytes)
            self.waiting = _counts(connection)
        except sqlite3.Error as error:
            connection.close()
            raise sqlite.StateError(f"{path} cannot be used: {error}; move it away to begin anew") from error
        self._database = sqlite.Database(connection, name="broker")

    waiting: dict[Key, int]
    """Events by queue, as they were when the file was opened."""

    async def accept(
        self, headers: Mapping[str, str], body: bytes, queues: Sequence[Key], *, hops: int, now: datetime
    ) -> None:
        """On disk when this returns. Raises BacklogFull, BacklogError."""
        row = (hops, orjson.dumps(dict(headers)).decode(), body, now.timestamp())

        def work(connection: sqlite3.Connection) -> None:
            insert = "INSERT INTO event (hops, headers, body, accepted) VALUES (?, ?, ?, ?)"
            number = connection.execute(insert, row).lastrowid
            connection.executemany("INSERT INTO delivery VALUES (?, ?)", [(str(queue), number) for queue in queues])

        await self._run(work)

    async def next(self, queue: Key, *, after: int, limit: int) -> list[Accepted]:
        """The oldest events of the queue behind that number. Raises BacklogError."""

        def work(connection: sqlite3.Connection) -> list[tuple[int, int, str, bytes]]:
            return connection.execute(_NEXT, (str(queue), after, limit)).fetchall()

        rows = await self._run(work)
        return [Accepted(number, hops, orjson.loads(headers), body) for number, hops, headers, body in rows]

    async def settle(self, queue: Key, number: int) -> None:
        """The queue is done with the event. Raises BacklogError."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM delivery WHERE queue = ? AND event = ?", (str(queue), number))
            connection.execute(_UNWANTED, (number,))

        await self._run(work)

    async def forget(self, queue: Key) -> int:
        """Removes a queue; returns how many events waited in it. Raises BacklogError."""

        def work(connection: sqlite3.Connection) -> int:
            removed = connection.execute("DELETE FROM delivery WHERE queue = ?", (str(queue),)).rowcount
            if removed:
                connection.execute(_ALL_UNWANTED)
            return removed

        return await self._run(work)

    async def close(self) -> None:
        """After what was asked for is on disk."""
        await self._database.close()

    async def _run(self, work: sqlite.Work[_T]) -> _T:
        try:
            return await self._database.run(work)
        except sqlite3.Error as error:
            is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            raise (BacklogFull if is_full else BacklogError)(str(error)) from error


def _tidy(connection: sqlite3.Connection, now: datetime, limit_bytes: int) -> None:
    """Sets the limit, removes what nobody will ask for, and gives unused space back."""
    connection.execute(f"PRAGMA max_page_count = {limit_bytes // _PAGE}")
    with sqlite.transaction(connection):
        expired = "DELETE FROM delivery WHERE event IN (SELECT number FROM event WHERE accepted < ?)"
        removed = connection.execute(expired, (now.timestamp() - KEPT_SECONDS,)).rowcount
        if removed:
            connection.execute(_ALL_UNWANTED)
            _log.warning("events removed that nobody took for a week", events=removed)
    if not connection.execute("SELECT 1 FROM delivery LIMIT 1").fetchone():
        connection.execute("VACUUM")


def _counts(connection: sqlite3.Connection) -> dict[Key, int]:
    rows = connection.execute("SELECT queue, count(*) FROM delivery GROUP BY queue").fetchall()
    return {_key(queue): count for queue, count in rows}


def _key(text: str) -> Key:
    namespace, _, name = text.partition("/")
    return Key(namespace, name)
