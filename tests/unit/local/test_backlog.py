"""Accepted events on disk: what is kept, what goes, and what is said when there is no room."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from knative_lambda.api.meta import Key
from knative_lambda.events.sqlite import StateError
from knative_lambda.local.messaging import backlog
from knative_lambda.local.messaging.backlog import Accepted, Backlog, BacklogError, BacklogFull

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS, AUDIT = Key("shop", "orders-1"), Key("shop", "audit-1")
HEADERS = {"ce-id": "e-1", "content-type": "text/plain"}


def opened(path: Path, *, limit: int = 10_000_000, now: datetime = NOW) -> Backlog:
    return Backlog(path / "broker.db", limit_bytes=limit, now=now)


def events_in(path: Path) -> int:
    with closing(sqlite3.connect(path / "broker.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])


async def accept(store: Backlog, *queues: Key, body: bytes = b"x", hops: int = 0, now: datetime = NOW) -> None:
    await store.accept(HEADERS, body, queues, hops=hops, now=now)


async def fill(store: Backlog) -> None:
    """More than fits."""
    for _ in range(100):
        await accept(store, ORDERS, body=b"x" * 10_000)


async def test_event_is_there_after_a_restart_with_all_that_came(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await accept(store, ORDERS, body=b"\x00\xff", hops=3)
    await store.close()
    again = opened(tmp_path)
    assert again.waiting == {ORDERS: 1}
    assert await again.next(ORDERS, after=0, limit=10) == [Accepted(1, 3, HEADERS, b"\x00\xff")]
    await again.close()


async def test_event_goes_with_the_last_queue_that_wants_it(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await accept(store, ORDERS, AUDIT)
    await store.settle(ORDERS, 1)
    assert await store.next(ORDERS, after=0, limit=10) == []
    assert [event.number for event in await store.next(AUDIT, after=0, limit=10)] == [1]
    await store.settle(AUDIT, 1)
    await store.close()
    assert events_in(tmp_path) == 0


async def test_events_come_in_their_order_some_at_a_time(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for number in range(5):
        await accept(store, ORDERS, body=str(number).encode())
        await accept(store, AUDIT)
    first = await store.next(ORDERS, after=0, limit=2)
    rest = await store.next(ORDERS, after=first[-1].number, limit=10)
    assert [event.body for event in [*first, *rest]] == [b"0", b"1", b"2", b"3", b"4"]
    await store.close()


async def test_forgotten_queue_leaves_the_events_of_others(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await accept(store, ORDERS)
    await accept(store, ORDERS, AUDIT)
    assert await store.forget(ORDERS) == 2
    assert await store.forget(ORDERS) == 0
    assert [event.number for event in await store.next(AUDIT, after=0, limit=10)] == [2]
    await store.close()
    assert events_in(tmp_path) == 1


async def test_event_that_nobody_came_back_for_goes_after_a_week(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await accept(store, ORDERS, now=NOW)
    await accept(store, AUDIT, now=NOW + timedelta(days=1))
    await store.close()
    again = opened(tmp_path, now=NOW + timedelta(seconds=backlog.KEPT_SECONDS + 1))
    assert again.waiting == {AUDIT: 1}
    await again.close()


async def test_full_store_says_so_and_takes_events_again_when_there_is_room(tmp_path: Path) -> None:
    store = opened(tmp_path, limit=400_000)
    with pytest.raises(BacklogFull):
        await fill(store)
    for event in await store.next(ORDERS, after=0, limit=100):
        await store.settle(ORDERS, event.number)
    await accept(store, ORDERS, body=b"x" * 10_000)
    await store.close()


async def test_closed_store_raises_its_own_error(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.close()
    with pytest.raises(BacklogError):
        await accept(store, ORDERS)


async def test_store_that_is_empty_gives_its_space_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await accept(store, ORDERS, body=b"x" * 1_000_000)
    await store.settle(ORDERS, 1)
    await store.close()
    before = (tmp_path / "broker.db").stat().st_size
    await opened(tmp_path).close()
    assert (tmp_path / "broker.db").stat().st_size < before / 10


FORMAT_1 = """
    CREATE TABLE event (
        number INTEGER PRIMARY KEY AUTOINCREMENT, hops INTEGER NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL,
        accepted REAL NOT NULL
    );
    CREATE TABLE delivery (
        queue TEXT NOT NULL, event INTEGER NOT NULL REFERENCES event (number), PRIMARY KEY (queue, event)
    ) WITHOUT ROWID;
    CREATE INDEX delivery_of_event ON delivery (event);
    INSERT INTO event VALUES (3, 1, '{"ce-id":"e-1","content-type":"text/plain"}', x'78', 1767225600);
    INSERT INTO delivery VALUES ('shop/orders-1', 3);
    PRAGMA user_version = 1;
"""
"""What version 0.1.0 writes. It stays as it is: another format is another step."""


async def test_events_that_the_first_version_accepted_are_delivered(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "broker.db")) as connection:
        connection.executescript(FORMAT_1)
    store = opened(tmp_path)
    assert store.waiting == {ORDERS: 1}
    assert await store.next(ORDERS, after=0, limit=10) == [Accepted(3, 1, HEADERS, b"x")]
    await accept(store, ORDERS)
    await store.settle(ORDERS, 3)
    assert [event.number for event in await store.next(ORDERS, after=0, limit=10)] == [4]
    await store.close()


def test_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "broker.db")) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StateError, match="newer kn-lambda"):
        opened(tmp_path)


def test_store_whose_tables_are_not_ours_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "broker.db")) as connection:
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(StateError, match=r"no such table.*move it away"):
        opened(tmp_path)
