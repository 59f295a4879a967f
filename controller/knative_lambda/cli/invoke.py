"""`kn-lambda invoke`: one request or event to a function; its reply on stdout, what is to say of it on stderr."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knative_lambda.cli import clusters, completion
from knative_lambda.cli.failures import FOUND, Fault
from knative_lambda.cli.output import Form, Output, console, legible, printable, write_json

if TYPE_CHECKING:
    from knative_lambda.cli.posting import Reply

DATA_LIMIT = 64 * 1024 * 1024
"""Bytes that are sent at most."""
SHOWN_LIMIT = 1024 * 1024
"""Bytes of a reply that a terminal is shown."""


def invoke(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Function: NAME or NAMESPACE/NAME.", autocompletion=completion.functions),
    ],
    data: Annotated[str | None, typer.Option("--data", "-d", metavar="TEXT", help="What is sent.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="A file that is sent; - is stdin.")
    ] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Send a CloudEvent of this type.")
    ] = None,
    source: Annotated[str, typer.Option(help="The event's source; /kn-lambda/invoke when not given.")] = "",
    subject: Annotated[str, typer.Option(help="The event's subject.")] = "",
    event_id: Annotated[str, typer.Option("--id", help="The event's id; a new one when not given.")] = "",
    method: Annotated[str, typer.Option("--method", "-X", help="HTTP method.")] = "POST",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A header; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds for all of it.")] = 60.0,
    namespace: clusters.Namespace = None,
    kubeconfig: clusters.Kubeconfig = None,
    context: clusters.Context = None,
    local: clusters.Local = False,
    state_dir: clusters.StateDir = None,
    output: Output = Form.TEXT,
) -> None:
    """Send a request, or with --type a CloudEvent, to a function; print its reply.

    The reply's body goes to stdout as it is, status and timing go to stderr. The content type is json, text or bytes,
    as the data looks, or what -H 'Content-Type: …' says. Redirects are not followed.

    \b
    kn-lambda invoke hello --data '{"name": "you"}'
    kn-lambda invoke shop/orders --type com.example.placed --data '{"total": 3}'
    kn-lambda invoke thumbs --file photo.jpg > small.jpg
    cat big.json | kn-lambda invoke import --file - --timeout 300
    kn-lambda invoke hello --method GET --local -o json | jq .seconds

    Exit codes: 0 the status is below 400, 1 it is not, 2 there is no such function, or no answer.
    """
    from knative_lambda.cli import posting, seen

    verb, body = _method(method), _data(data, file)
    if event_type == "":
        raise Fault("--type is empty, and an event without a type is none: leave --type out to send a plain request")
    if not event_type and (source or subject or event_id):
        raise Fault("--source, --subject and --id are of a CloudEvent: give its --type, too")
    given = posting.headers(header or [])
    kind = given.get("content-type") or (posting.content_type(body) if body else "")
    sent = {"content-type": kind} if kind else {}
    if event_type:
        sent = posting.event_headers(
            body, type=event_type, source=source, subject=subject, id=event_id, content_type=kind
        )
    site = clusters.choose(kubeconfig, context, local=local, state_dir=state_dir)
    key = seen.key_of(name, "" if "/" in name else site.namespace(namespace))
    url = _address(site.ask(lambda cluster: seen.find(cluster, key)))
    request = posting.Request(url, verb, {**sent, **given}, body)
    screen = _Screen(keep=output is Form.JSON or sys.stdout.isatty())
    reply = asyncio.run(posting.send(request, seconds=timeout, take=screen.take))
    if output is Form.JSON:
        write_json(_told(reply, bytes(screen.kept), url))
    else:
        screen.show(reply)
        _tell(reply)
    if reply.cut:
        raise Fault(f"the reply is longer than {posting.REPLY_LIMIT >> 20} MiB; only its beginning was read")
    if reply.status >= 400:
        raise typer.Exit(FOUND)


def _data(data: str | None, file: Path | None) -> bytes:
    """What is sent. Raises Fault, OSError."""
    if data is not None and file is not None:
        raise Fault("--data and --file are both what is sent: give one of them")
    if file is None:
        return (data or "").encode(errors="surrogateescape")
    if str(file) == "-":
        body = sys.stdin.buffer.read(DATA_LIMIT + 1)
    else:
        with file.open("rb") as opened:
            body = opened.read(DATA_LIMIT + 1)
    if len(body) > DATA_LIMIT:
        raise Fault(f"{file}: more than {DATA_LIMIT >> 20} MiB are not sent")
    return body


def _method(method: str) -> str:
    if not (method.isascii() and method.isalpha()):
        raise Fault(f"--method: {printable(method)} is no HTTP method")
    return method.upper()


def _address(fn: dict[str, Any]) -> str:
    """Where it answers, and a word on stderr when that is not its newest state. Raises Fault without one."""
    from knative_lambda.cli import seen

    row, why = seen.row(fn), seen.readiness(fn)
    if not row.url:
        raise Fault(f"function {row.key} has no address yet ({why}); kn-lambda describe {row.key} tells more")
    if why:
        told = printable(f"{row.key} is not ready ({why}): an older revision may answer")
        console(stderr=True).print(told, style="yellow")
    return row.url


class _Screen:
    """Where the body goes: through to a file or pipe as it comes; kept, to be looked at first, for a terminal."""

    def __init__(self, *, keep: bool) -> None:
        self.kept = bytearray()
        self._keep = keep
        self._parts: list[bytes] = []

    def take(self, chunk: bytes) -> None:
        if self._keep:
            self.kept += chunk
        else:
            sys.stdout.buffer.write(chunk)

    def show(self, reply: Reply) -> None:
        """What was kept, if a terminal can show it."""
        if not self._keep:
            sys.stdout.buffer.flush()
            return
        text = _text(bytes(self.kept))
        if text is None:
            kind = printable(reply.content_type) or "unknown type"
            console(stderr=True).print(
                f"the reply is binary ({kind}), which no terminal shows: send it to a file with > FILE", style="yellow"
            )
            return
        shown = legible(text[:SHOWN_LIMIT])
        sys.stdout.write(shown if not shown or shown.endswith("\n") else shown + "\n")
        if len(text) > SHOWN_LIMIT:
            console(stderr=True).print(
                f"the first {SHOWN_LIMIT >> 20} MiB are shown: send all of it to a file with > FILE"
            )
        sys.stdout.flush()


def _text(body: bytes) -> str | None:
    """None for what is no text."""
    if b"\0" in body:
        return None
    try:
        return body.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


def _told(reply: Reply, body: bytes, url: str) -> dict[str, Any]:
    """For programs; a body that is no text is base64."""
    text = _text(body)
    content = {"body": body.decode()} if text is not None else {"body_base64": base64.b64encode(body).decode()}
    return {
        "url": url,
        "status": reply.status,
        "headers": reply.headers,
        "first_byte_seconds": round(reply.first_seconds, 6),
        "seconds": round(reply.seconds, 6),
        **content,
    }


def _tell(reply: Reply) -> None:
    """`200 OK, 5 bytes of text/plain in 12 ms (first byte after 11 ms)`, and where a redirect points."""
    kind = f" of {reply.content_type}" if reply.content_type else ""
    where = f", to {reply.headers['location']}" if "location" in reply.headers else ""
    times = f"{_milliseconds(reply.seconds)} ms (first byte after {_milliseconds(reply.first_seconds)} ms)"
    told = f"{reply.status} {reply.reason}{where}, {reply.size} bytes{kind} in {times}"
    console(stderr=True).print(printable(told), style="red" if reply.status >= 400 else "green")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}" if seconds < 0.01 else f"{seconds * 1000:.0f}"
