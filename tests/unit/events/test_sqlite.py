"""Files of local mode: their format, who may read them, and what shares a commit."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.events import sqlite
from knative_lambda.events.dead_letters import Letter
from knative_lambda.events.mailbox import MailboxError
from knative_lambda.events.sqlite import Database, StateError
from knative_lambda.events.sqlite_letters import SqliteLetters
from knative_lambda.events.sqlite_mailbox import SqliteMailbox
from knative_lambda.kit.clock import ManualClock
from knative_lambda.resources import dead_letter, names

FIRST = ("CREATE TABLE word (text TEXT)", "INSERT INTO word VALUES ('old')")
SECOND = ("ALTER TABLE word ADD COLUMN length INTEGER", "UPDATE word SET length = 3")
ORDERS = Key("shop", "orders")


def letter(number: int) -> Letter:
    return Letter(f"l-{number}", names.dead_letter_key(ORDERS), b"{}", headers={"ce-id": f"e-{number}"})


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_file_of_an_older_version_is_brought_up_to_date_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "words.db"
    sqlite.connect(path, [FIRST]).close()
    assert version(path) == 1
    with closing(sqlite.connect(path, [FIRST, SECOND])) as connection:
        assert connection.execute("SELECT text, length FROM word").fetchall() == [("old", 3)]
    assert version(path) == 2


def test_step_that_fails_leaves_the_older_version_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    sqlite.connect(path, [FIRST]).close()
    with pytest.raises(StateError, match="no such table: missing"):
        sqlite.connect(path, [FIRST, (*SECOND, "DROP TABLE missing")])
    assert version(path) == 1
    with closing(sqlite.connect(path, [FIRST])) as connection:
        assert connection.execute("SELECT * FROM word").fetchall() == [("old",)]


def test_file_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    sqlite.connect(path, [FIRST, SECOND]).close()
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"newer kn-lambda \(its format is 2, this version knows up to 1\): use"):
        sqlite.connect(path, [FIRST])
    assert path.read_bytes() == before


FORMAT_1 = """
    CREATE TABLE queue (name TEXT PRIMARY KEY, routing_key TEXT UNIQUE) WITHOUT ROWID;
    CREATE TABLE letter (
        number INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL REFERENCES queue (name), id TEXT NOT NULL,
        content_type TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL, parked REAL NOT NULL
    );
    CREATE INDEX letter_of_queue ON letter (queue, number);
    CREATE INDEX letter_by_age ON letter (parked);
    INSERT INTO queue VALUES ('knative-lambda-dlq', NULL);
    INSERT INTO queue VALUES ('knative-lambda-dlq.shop.orders', 'dlq.shop.orders');
    INSERT INTO letter VALUES (
        7, 'knative-lambda-dlq.shop.orders', 'l-1', 'application/json', '{"ce-id":"e-1"}', x'7b7d',
        strftime('%s', 'now')
    );
    PRAGMA user_version = 1;
"""
"""What version 0.1.0 writes. It stays as it is: another format is another step."""


async def test_letters_of_the_first_version_are_read_and_more_are_parked_beside_them(tmp_path: Path) -> None:
    path, queue = tmp_path / "letters.db", names.dead_letter_queue(ORDERS)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FORMAT_1)
    letters = SqliteLetters(path)
    assert (await letters.ensure(ORDERS)).is_ready
    assert await letters.park(letter(2))
    assert await letters.depths([queue]) == {queue: 2}
    await letters.close()
    with closing(SqliteMailbox(path)) as box:
        assert [(one.body, one.headers["ce-id"]) for one in box.peek(queue, 5)] == [(b"{}", "e-1"), (b"{}", "e-2")]


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_file_that_is_no_database_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letters.db"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"letters\.db cannot be used: .*; move it away"):
        SqliteLetters(path)


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match="cannot be opened"):
        SqliteLetters(tmp_path / "state" / "letters.db")


def test_nobody_else_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "words.db"
    sqlite.connect(path, [FIRST]).close()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_what_is_committed_is_on_disk_and_readers_wait_for_nobody(tmp_path: Path) -> None:
    with closing(sqlite.connect(tmp_path / "words.db", [FIRST])) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL: power may go after a commit"


async def test_work_that_is_asked_for_during_a_commit_shares_the_next_one(tmp_path: Path) -> None:
    connection = sqlite.connect(tmp_path / "words.db", [FIRST])
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    database = Database(connection, name="test")

    def insert(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO word VALUES ('new')")

    await asyncio.gather(*(database.run(insert) for _ in range(100)))
    await database.close()
    assert statements.count("INSERT INTO word VALUES ('new')") == 100
    assert statements.count("COMMIT") == 1


async def test_work_that_fails_takes_nothing_else_with_it(tmp_path: Path) -> None:
    database = Database(sqlite.connect(tmp_path / "words.db", [FIRST]), name="test")

    def insert(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO word VALUES ('new')")

    def fail(connection: sqlite3.Connection) -> None:
        insert(connection)
        connection.execute("INSERT INTO nowhere VALUES (1)")

    results = await asyncio.gather(*(database.run(work) for work in (insert, fail, insert)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), sqlite3.OperationalError, type(None)]
    rows = await database.run(lambda connection: connection.execute("SELECT count(*) FROM word").fetchone())
    assert rows == (3,)
    await database.close()


async def test_work_of_somebody_who_was_cancelled_is_done_and_the_rest_goes_on(tmp_path: Path) -> None:
    database = Database(sqlite.connect(tmp_path / "words.db", [FIRST]), name="test")

    def insert(connection: sqlite3.Connection) -> int:
        return connection.execute("INSERT INTO word VALUES ('new')").rowcount

    given_up = asyncio.create_task(database.run(insert))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await database.run(insert) == 1
    assert await database.run(lambda one: one.execute("SELECT count(*) FROM word").fetchone()) == (3,)
    await database.close()


async def test_closed_database_refuses_work(tmp_path: Path) -> None:
    database = Database(sqlite.connect(tmp_path / "words.db", [FIRST]), name="test")
    await database.close()
    await database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        await database.run(lambda connection: None)


async def test_letters_go_after_seven_days(tmp_path: Path) -> None:
    path, clock = tmp_path / "letters.db", ManualClock()
    letters = SqliteLetters(path, clock=clock)
    await letters.ensure(ORDERS)
    await letters.park(letter(1))
    await clock.advance(dead_letter.TTL_MILLISECONDS / 1000 - 60)
    await letters.park(letter(2))
    assert await letters.depths([names.dead_letter_queue(ORDERS)]) == {names.dead_letter_queue(ORDERS): 2}
    await clock.advance(120)
    assert await letters.park(letter(3))
    assert await letters.depths([names.dead_letter_queue(ORDERS)]) == {names.dead_letter_queue(ORDERS): 2}
    await letters.close()
    later = ManualClock(clock.now() + timedelta(milliseconds=dead_letter.TTL_MILLISECONDS, seconds=-90))
    box = SqliteMailbox(path, clock=later)
    assert [one.headers["ce-id"] for one in box.peek(names.dead_letter_queue(ORDERS), 5)] == ["e-3"]
    box.close()


async def test_full_disk_is_no_parked_letter(tmp_path: Path) -> None:
    path = tmp_path / "letters.db"
    letters = SqliteLetters(path)
    letters._database._connection.execute("PRAGMA max_page_count = 20")
    big = Letter("l", "dlq.a.b", b"x" * 200_000)
    assert not await letters.park(big)
    assert await letters.park(letter(1)), "what fits is still taken"
    await letters.close()


async def test_closed_letters_answer_and_do_not_raise(tmp_path: Path) -> None:
    letters = SqliteLetters(tmp_path / "letters.db")
    await letters.close()
    assert not await letters.park(letter(1))
    assert not (await letters.ensure(ORDERS)).is_ready
    assert await letters.depths([]) is None


def test_looking_for_letters_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "letters.db"
    with pytest.raises(MailboxError, match="there are no dead letters in"):
        SqliteMailbox(path)
    assert not path.exists()


def test_mailbox_of_a_newer_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "letters.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(MailboxError, match="newer kn-lambda"):
        SqliteMailbox(path)


async def test_mailbox_tells_trouble_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "letters.db"
    await SqliteLetters(path).close()
    box = SqliteMailbox(path)
    box.close()
    with pytest.raises(MailboxError, match="cannot be used"):
        box.depth(names.DEAD_LETTER_QUEUE)
