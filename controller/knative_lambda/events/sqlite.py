"""SQLite files of local mode: opened with their format checked, written by one thread, many writes to a commit.

A file's format is its `user_version`: the number of steps that made it. Called by sqlite_letters, sqlite_mailbox and
local.backlog.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]
"""Reads or writes inside a transaction that somebody else begins and ends."""
Steps = Sequence[Sequence[str]]
"""Statements by format: the first step makes format 1 of an empty file, the next one format 2 of format 1."""

BUSY_SECONDS = 5.0
"""How long a writer waits for another process (`kn-lambda dlq` beside `kn-lambda dev`)."""
BATCH_LIMIT = 512
"""Writes that share a commit at most."""


class StateError(Exception):
    """A file that cannot be used; the text is for people and says what to do."""


def connect(path: Path, steps: Steps) -> sqlite3.Connection:
    """The file, made or brought up to the newest format, for its owner's eyes only. Raises StateError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"{path} cannot be opened: {error}") from error
    try:
        _migrate(connection, path, steps)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        connection.close()
        raise StateError(f"{path} cannot be used: {error}; move it away to begin anew") from error
    except StateError:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is there, on disk, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk ends it by itself
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection, path: Path, steps: Steps) -> None:
    with transaction(connection):  # so that of two processes one waits for the other
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version > len(steps):
            known = f"its format is {version}, this version knows up to {len(steps)}"
            raise StateError(f"{path} was written by a newer kn-lambda ({known}): use that one, or move the file away")
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")


class Database:
    """A connection that belongs to one thread. What is asked for during a commit is in the next one, together."""

    def __init__(self, connection: sqlite3.Connection, *, name: str) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[tuple[Work[Any], asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, work: Work[T]) -> T:
        """What `work` returned, once it is committed. Raises sqlite3.Error, with nothing of this work done."""
        if self._closed:
            raise sqlite3.ProgrammingError("the database is closed")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="sqlite commits")
        return await done

    async def close(self) -> None:
        """After everything that was asked for is committed. May be called twice."""
        self._closed = True
        if self._committing is not None:
            await self._committing
        self._thread.shutdown()
        self._connection.close()

    async def _commit_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
            commit = partial(_commit, self._connection, [work for work, _ in batch])
            for (_, done), (value, error) in zip(batch, await loop.run_in_executor(self._thread, commit), strict=True):
                if done.done():
                    continue  # whoever asked was cancelled; the work is done all the same
                if error is None:
                    done.set_result(value)
                else:
                    done.set_exception(error)


_Result = tuple[Any, Exception | None]


def _commit(connection: sqlite3.Connection, works: list[Work[Any]]) -> list[_Result]:
    """All in one transaction; when that fails each in its own, so that one fails alone."""
    try:
        with transaction(connection):
            return [(work(connection), None) for work in works]
    except Exception as error:  # noqa: BLE001 - whoever asked for the work gets it
        if len(works) == 1:
            return [(None, error)]
    return [_commit(connection, [work])[0] for work in works]
