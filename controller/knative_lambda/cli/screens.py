"""Three ways to show a running `kn-lambda dev`: a live table, plain lines, or JSON lines. Chosen by cli.dev."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from knative_lambda.api.events import Event
from knative_lambda.api.meta import Key
from knative_lambda.cli.board import Row, told, told_delivery, told_link, told_remark
from knative_lambda.cli.output import console, printable
from knative_lambda.local.messaging.delivery import Notice, What

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"Ready": "green", "Failed": "red", "Building": "yellow", "Deploying": "yellow"}
REFRESHES = 4
"""Times per second that a terminal is drawn again."""

LAST_EVENT_WIDTH = 26

Instances = Callable[[Key], int]
"""Processes of a function, now."""


class Display(Protocol):
    """Shows what happens, as it happens. Every call returns at once."""

    def begin(self, url: str, what: str) -> None:
        """Functions of `what` are served at `url`."""
        ...

    def function(self, row: Row) -> None:
        """A function is new, or different."""
        ...

    def gone(self, key: Key) -> None:
        """A function was deleted."""
        ...

    def event(self, event: Event) -> None:
        """A lifecycle event went out."""
        ...

    def delivery(self, notice: Notice) -> None:
        """The broker did something with an event."""
        ...

    def problem(self, text: str) -> None:
        """Something about the repository, not about one function."""
        ...

    def remark(self, subject: str, text: str) -> None:
        """Something that stops nobody; about a function, or about all when `subject` is empty."""
        ...

    def link(self, problem: str) -> None:
        """Lifecycle events wait, and why; or, without a problem, go out again."""
        ...


class Lines:
    """Plain text, for pipes and for terminals that cannot be drawn on."""

    def begin(self, url: str, what: str) -> None:
        self._write(f"functions of {what} at {url}")

    def function(self, row: Row) -> None:
        said = row.url if row.phase == "Ready" else row.message
        self._write(f"{row.key.name}: {row.phase}{' ' + row.revision if row.revision else ''} {said}".rstrip())

    def gone(self, key: Key) -> None:
        self._write(f"{key.name}: deleted")

    def event(self, event: Event) -> None:
        self._write(f"event {told(event)}")

    def delivery(self, notice: Notice) -> None:
        self._write(told_delivery(notice))

    def problem(self, text: str) -> None:
        self._write(f"problem: {text}")

    def remark(self, subject: str, text: str) -> None:
        self._write(told_remark(subject, text))

    def link(self, problem: str) -> None:
        self._write(told_link(problem))

    def _write(self, text: str) -> None:
        _put(f"{datetime.now():%H:%M:%S} {printable(text)}\n")


class JsonLines:
    """One object per line, each with `time` and `kind`."""

    def begin(self, url: str, what: str) -> None:
        self._write("begin", url=url, repository=what)

    def function(self, row: Row) -> None:
        self._write(
            "function",
            namespace=row.key.namespace,
            name=row.key.name,
            phase=row.phase,
            message=row.message,
            revision=row.revision,
            url=row.url,
        )

    def gone(self, key: Key) -> None:
        self._write("deleted", namespace=key.namespace, name=key.name)

    def event(self, event: Event) -> None:
        self._write("event", id=event.id, type=event.type, subject=event.subject, data=event.data)

    def delivery(self, notice: Notice) -> None:
        self._write(
            "delivery",
            what=notice.what.value,
            broker=str(notice.broker),
            function=str(notice.function or ""),
            type=notice.type,
            id=notice.id,
            status=notice.status,
            attempt=notice.attempt,
        )

    def problem(self, text: str) -> None:
        self._write("problem", message=text)

    def remark(self, subject: str, text: str) -> None:
        self._write("remark", name=subject, message=text)

    def link(self, problem: str) -> None:
        self._write("link", connected=not problem, message=problem)

    def _write(self, kind: str, **fields: Any) -> None:
        _put(json.dumps({"time": datetime.now(UTC).isoformat(), "kind": kind, **fields}) + "\n")


def _put(line: str) -> None:
    """When nobody reads any more, that is as good as ctrl-C."""
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        signal.raise_signal(signal.SIGINT)


class LiveTable:
    """The table stays at the bottom of the terminal, events scroll away above it."""

    def __init__(self, rows: Mapping[Key, Row], instances: Instances) -> None:
        """`rows` is looked at whenever the table is drawn."""
        self._rows = rows
        self._instances = instances
        self._last: dict[str, str] = {}
        self._console = console()
        self._title = ""
        self._problem = ""

    @contextmanager
    def drawn(self) -> Iterator[None]:
        from rich.live import Live

        with Live(console=self._console, get_renderable=self._table, refresh_per_second=REFRESHES):
            yield

    def begin(self, url: str, what: str) -> None:
        self._title = f"{printable(what)} at {url} (ctrl-C ends)"

    def function(self, row: Row) -> None:
        if row.phase == "Failed":
            self._say(f"{row.key.name}: {row.message}", "red")

    def gone(self, key: Key) -> None:
        self._say(f"{key.name}: deleted", "dim")

    def event(self, event: Event) -> None:
        name = str(event.data.get("function_name") or event.data.get("name") or event.data.get("service_name") or "")
        self._last[name] = event.type.removeprefix("lambda.")
        self._say(f"event {told(event)}", "dim")

    def delivery(self, notice: Notice) -> None:
        if notice.function is not None:
            self._last[notice.function.name] = f"{notice.what.value} {notice.type}"
        self._say(told_delivery(notice), "red" if notice.what in (What.FAILED, What.DEAD) else "")

    def problem(self, text: str) -> None:
        self._say(text, "red")

    def remark(self, subject: str, text: str) -> None:
        self._say(told_remark(subject, text), "yellow")

    def link(self, problem: str) -> None:
        self._say(told_link(problem), "yellow" if problem else "")

    def _say(self, text: str, style: str) -> None:
        self._console.print(f"{datetime.now():%H:%M:%S} {printable(text)}", style=style)

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._title, title_justify="left", expand=False)
        for name in ("function", "state", "revision", "processes", "url", "last event"):
            widest = LAST_EVENT_WIDTH if name == "last event" else None
            overflow: Literal["fold", "ellipsis"] = "fold" if name == "url" else "ellipsis"
            table.add_column(name, overflow=overflow, no_wrap=name != "url", max_width=widest)
        for key, one in sorted(self._rows.items()):
            state = Text(one.phase, style=_STYLES.get(one.phase, ""))
            count = str(self._instances(key))
            table.add_row(key.name, state, one.revision, count, one.url, self._last.get(key.name, ""))
        return table
