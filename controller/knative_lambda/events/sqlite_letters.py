"""Dead letters in a file: what local mode has in RabbitMQ's place. Made by local.dev.

A queue keeps as many letters, for as long, as one in RabbitMQ does; the oldest go first. `kn-lambda dlq` reads the
same file through sqlite_mailbox, also while it is written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import orjson
import structlog

from knative_lambda.api.meta import Key
from knative_lambda.events import dead_letters, sqlite
from knative_lambda.events.dead_letters import Letter, QueueState
from knative_lambda.kit.clock import Clock, SystemClock
from knative_lambda.resources import dead_letter, names

STEPS: sqlite.Steps = (
    (
        "CREATE TABLE queue (name TEXT PRIMARY KEY, routing_key TEXT UNIQUE) WITHOUT ROWID",
        """CREATE TABLE letter (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            queue TEXT NOT NULL REFERENCES queue (name),
            id TEXT NOT NULL,
            content_type TEXT NOT NULL,
            headers TEXT NOT NULL,
            body BLOB NOT NULL,
            parked REAL NOT NULL
        )""",
        "CREATE INDEX letter_of_queue ON letter (queue, number)",
        "CREATE INDEX letter_by_age ON letter (parked)",
        f"INSERT INTO queue VALUES ('{names.DEAD_LETTER_QUEUE}', NULL)",  # noqa: S608 - a constant of ours
    ),
)
_OVERFLOW = """DELETE FROM letter WHERE queue = ?1 AND number <=
    (SELECT number FROM letter WHERE queue = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)"""
_DEPTHS = "SELECT name, count(number) FROM queue LEFT JOIN letter ON letter.queue = queue.name GROUP BY name"

_log = structlog.get_logger(__name__)


def open_file(path: Path) -> sqlite3.Connection:
    """The letters' file. Raises sqlite.StateError."""
    return sqlite.connect(path, STEPS)


def expire(connection: sqlite3.Connection, now: datetime) -> None:
    """Removes what is older than a dead letter gets."""
    oldest = now.timestamp() - dead_letter.TTL_MILLISECONDS / 1000
    connection.execute("DELETE FROM letter WHERE parked < ?", (oldest,))


class SqliteLetters:
    """The ports of events.dead_letters over one file, which is opened at once."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock = SystemClock(),  # noqa: B008 - has no state
        max_length: int = dead_letter.MAX_LENGTH,
    ) -> None:
        """`max_length`: letters of one queue. Raises sqlite.StateError."""
        self._database = sqlite.Database(open_file(path), name="dead letters")
        self._clock = clock
        self._max_length = max_length

    @property
    def connected(self) -> bool:
        """A file is never away."""
        return True

    async def park(self, letter: Letter) -> bool:
        """As the port says; False when the disk does not take it."""
        now = self._clock.now()

        def work(connection: sqlite3.Connection) -> None:
            queue = _queue_for(connection, letter.routing_key)
            expire(connection, now)
            _insert(connection, queue, letter, now)
            connection.execute(_OVERFLOW, (queue, self._max_length))

        try:
            await self._database.run(work)
        except sqlite3.Error as error:
            _log.error("dead letter cannot be parked", letter=letter.id, problem=str(error))
            return False
        return True

    async def ensure(self, function: Key) -> QueueState:
        """As the port says."""
        row = (names.dead_letter_queue(function), names.dead_letter_key(function))

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO queue VALUES (?, ?)", row)

        try:
            await self._database.run(work)
        except sqlite3.Error as error:
            return dead_letters.awaited(f"the file of dead letters cannot be written ({error})")
        return dead_letters.READY

    async def depths(self, queues: Sequence[str]) -> Mapping[str, int] | None:
        """As the port says."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            rows = connection.execute(_DEPTHS).fetchall()
            return {name: count for name, count in rows if name in queues}

        try:
            return await self._database.run(work)
        except sqlite3.Error as error:
            _log.warning("dead letters cannot be counted", problem=str(error))
            return None

    async def close(self) -> None:
        """After what was asked for is on disk."""
        await self._database.close()


def _queue_for(connection: sqlite3.Connection, routing_key: str) -> str:
    """The queue that is bound to the key, or the catch-all."""
    found = connection.execute("SELECT name FROM queue WHERE routing_key = ?", (routing_key,)).fetchone()
    return str(found[0]) if found else names.DEAD_LETTER_QUEUE


def _insert(connection: sqlite3.Connection, queue: str, letter: Letter, now: datetime) -> None:
    headers = orjson.dumps(dict(letter.headers)).decode()
    connection.execute(
        "INSERT INTO letter (queue, id, content_type, headers, body, parked) VALUES (?, ?, ?, ?, ?, ?)",
        (queue, letter.id, letter.content_type, headers, letter.body, now.timestamp()),
    )
