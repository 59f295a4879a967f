"""What `kn-lambda dlq` shows: names of queues, letters and tables, for people and for programs."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from knative_lambda.api.meta import Key
from knative_lambda.cli.failures import Fault
from knative_lambda.cli.output import printable
from knative_lambda.events.mailbox import Parked
from knative_lambda.resources import names

CATCH_ALL = "catch-all"
TEXT_LIMIT = 2000
"""Characters of a letter's body that are shown to people."""


@dataclass(frozen=True, slots=True)
class Condition:
    """DLQReady of a function."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `list`."""

    place: str
    condition: Condition | None = None
    """None where no cluster was asked, or where it does not say."""

    def told(self, depth: int | None) -> dict[str, Any]:
        """For programs; `letters` is null when there is no queue."""
        condition = asdict(self.condition) if self.condition else None
        return {"place": self.place, "queue": queue_of(self.place), "letters": depth, "dlq_ready": condition}


def key_of(place: str) -> Key:
    """The function. Raises Fault for what is not NAMESPACE/FUNCTION."""
    namespace, slash, name = place.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise Fault(f"{place!r}: write NAMESPACE/FUNCTION, or {CATCH_ALL}")
    return Key(namespace, name)


def queue_of(place: str) -> str:
    """Name of the queue. Raises Fault for what is neither NAMESPACE/FUNCTION nor catch-all."""
    return names.DEAD_LETTER_QUEUE if place == CATCH_ALL else names.dead_letter_queue(key_of(place))


def count(number: int) -> str:
    """In words."""
    return f"{number} letter{'' if number == 1 else 's'}"


def table(
    rows: Sequence[Row], depths: Mapping[str, int | None], *, with_condition: bool
) -> Iterator[tuple[str, str | None]]:
    """Lines of `list` with their style, the heading first; a column for DLQReady only where a cluster was asked."""
    width = max(len("FUNCTION"), *(len(row.place) for row in rows))
    yield f"{'FUNCTION':<{width}}  {'WAITING':>8}{'  DLQREADY' if with_condition else ''}", "bold"
    for row in rows:
        depth = depths[row.place]
        waiting = "no queue" if depth is None else str(depth)
        yield f"{row.place:<{width}}  {waiting:>8}{_said(row.condition)}", _style(row.condition, depth)


def _said(condition: Condition | None) -> str:
    if condition is None:
        return ""
    why = "" if condition.status == "True" else f" {condition.reason}: {condition.message}"
    return f"  {printable(condition.status + why)}"


def _style(condition: Condition | None, depth: int | None) -> str | None:
    if condition is not None and condition.status == "False":
        return "red"
    return "yellow" if depth else None


def told(letter: Parked) -> dict[str, Any]:
    """A letter for programs; a body that is no text is base64."""
    try:
        body = {"body": letter.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(letter.body).decode()}
    return {"content_type": letter.content_type, "headers": dict(letter.headers), **body}


def lines(one: dict[str, Any]) -> str:
    """The same for people."""
    headers = "\n".join(f"{name}: {printable(value)}" for name, value in sorted(one["headers"].items()))
    body = printable(one.get("body") or one.get("body_base64", ""))
    shown = body if len(body) <= TEXT_LIMIT else f"{body[:TEXT_LIMIT]}… ({len(body)} characters)"
    return f"content-type: {printable(one['content_type'])}\n{headers}\n\n{shown}\n"
