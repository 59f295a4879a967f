"""What `kn-lambda dlq` does with letters: names of queues, words for people, and their way to a target."""

from __future__ import annotations

import base64
import contextlib
import http.client
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from knative_lambda.api.meta import Key
from knative_lambda.cli.failures import Fault
from knative_lambda.cli.output import console, printable
from knative_lambda.events.mailbox import Parked
from knative_lambda.resources import names

CATCH_ALL = "catch-all"
TEXT_LIMIT = 2000
"""Characters of a letter's body that are shown to people."""


def queue_of(place: str) -> str:
    """Name of the queue. Raises Fault for what is neither NAMESPACE/FUNCTION nor catch-all."""
    if place == CATCH_ALL:
        return names.DEAD_LETTER_QUEUE
    namespace, slash, name = place.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise Fault(f"{place!r}: write NAMESPACE/FUNCTION, or {CATCH_ALL}")
    return names.dead_letter_queue(Key(namespace, name))


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


class Target:
    """Where letters are sent: POST as they once came, but for the notes of the sink. One kept connection."""

    def __init__(self, connection: http.client.HTTPConnection, path: str) -> None:
        self._connection = connection
        self._path = path
        self.problem = ""
        """Why the last letter was not accepted."""

    @classmethod
    def parse(cls, url: str, *, timeout: float) -> Target:
        """Raises Fault for what is no HTTP address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Fault(f"--to: {printable(url)} is no http:// or https:// address")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(kind(parts.hostname, parts.port, timeout=timeout), path)

    def accepts(self, letter: Parked) -> bool:
        """Whether the target answered 2xx."""
        headers = {name: value for name, value in letter.headers.items() if name.startswith("ce-")}
        if letter.content_type:
            headers["content-type"] = letter.content_type
        try:
            status = self._post(letter.body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.problem = f"{type(error).__name__}: {error}"
            return False
        self.problem = "" if status // 100 == 2 else f"HTTP {status}"
        return status // 100 == 2

    def close(self) -> None:
        self._connection.close()

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        self._connection.request("POST", self._path, body, headers)
        answer = self._connection.getresponse()
        if len(answer.read(64 * 1024)) == 64 * 1024:
            self._connection.close()  # more than is worth reading
        return answer.status


def paced(accepts: Callable[[Parked], bool], *, rate: float, advance: Callable[[], None]) -> Callable[[Parked], bool]:
    """Not faster than `rate` letters per second; `advance` is called after each."""
    began, count = time.monotonic(), 0

    def deliver(letter: Parked) -> bool:
        nonlocal count
        if rate:
            time.sleep(max(0.0, began + count / rate - time.monotonic()))
        count += 1
        accepted = accepts(letter)
        advance()
        return accepted

    return deliver


@contextlib.contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, on stderr; nothing elsewhere."""
    from rich.progress import Progress

    with Progress(console=console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("replaying", total=total)
        yield lambda: bar.advance(task)
