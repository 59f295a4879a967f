"""`kn-lambda dlq`: what functions could not take, in RabbitMQ: list, show, replay, purge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knative_lambda.cli import letters
from knative_lambda.cli.failures import FOUND, Fault
from knative_lambda.cli.output import Form, Output, console, write_json

if TYPE_CHECKING:
    from knative_lambda.events.mailbox import Mailbox

HELP = """What functions could not take, kept in RabbitMQ: list, show, replay or purge it.

\b
export KN_LAMBDA_RABBITMQ=amqp://user:password@localhost:5672/
kn-lambda dlq list shop/orders                 how many letters wait
kn-lambda dlq show shop/orders                 what is in the oldest, and why it is here
kn-lambda dlq replay shop/orders --to URL      send them again
kn-lambda dlq purge catch-all                  remove them for good
"""

dlq = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help=HELP,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

RabbitMQ = Annotated[
    str | None,
    typer.Option(
        envvar="KN_LAMBDA_RABBITMQ",
        show_envvar=True,
        metavar="URL",
        help="amqp:// or amqps:// address; better in the environment, which no process list shows.",
    ),
]
Functions = Annotated[list[str], typer.Argument(metavar="NAMESPACE/FUNCTION...", help="Functions to look for.")]
Place = Annotated[
    str, typer.Argument(metavar="NAMESPACE/FUNCTION|catch-all", help="A function, or the queue for everything else.")
]


@dlq.command("list")
def list_queues(functions: Functions, rabbitmq: RabbitMQ = None, output: Output = Form.TEXT) -> None:
    """Count the dead letters of functions, and those in the catch-all queue.

    \b
    kn-lambda dlq list shop/orders shop/invoices
    """
    queues = {place: letters.queue_of(place) for place in [*functions, letters.CATCH_ALL]}
    with _mailbox(rabbitmq) as mailbox:
        depths = {place: mailbox.depth(queue) for place, queue in queues.items()}
    if output is Form.JSON:
        write_json([{"place": place, "queue": queues[place], "letters": depth} for place, depth in depths.items()])
        return
    for place, depth in depths.items():
        console().print(f"{'no queue' if depth is None else depth:>8}  {place}")


@dlq.command()
def show(
    place: Place,
    rabbitmq: RabbitMQ = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the oldest.")] = 10,
    output: Output = Form.TEXT,
) -> None:
    """Show the oldest dead letters. They stay where they are.

    \b
    kn-lambda dlq show shop/orders --limit 1 -o json
    """
    with _mailbox(rabbitmq) as mailbox:
        found = mailbox.peek(_existing(mailbox, place), limit)
    told = [letters.told(letter) for letter in found]
    if output is Form.JSON:
        write_json(told)
        return
    for one in told:
        console().print(letters.lines(one))
    console().print(f"{len(told)} shown", style="bold")


@dlq.command()
def replay(
    place: Place,
    to: Annotated[str, typer.Option(metavar="URL", help="Where to send them: the function's URL, or a Broker's.")],
    rabbitmq: RabbitMQ = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many of the oldest.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Letters per second; 0 is unlimited.")] = 50.0,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds that one delivery may take.")] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    output: Output = Form.TEXT,
) -> None:
    """Send dead letters again. One leaves its queue only after its target accepted it (2xx).

    Only letters that are there at the start are sent. What the target refuses keeps its place.

    \b
    kn-lambda dlq replay shop/orders --to http://orders.shop.svc.cluster.local --dry-run
    kn-lambda dlq replay shop/orders --to http://default-broker-ingress.shop.svc.cluster.local --rate 10

    Exit codes: 0 all were accepted, 1 some were not, 2 it could not be tried.
    """
    target = letters.Target.parse(to, timeout=timeout)
    with _mailbox(rabbitmq) as mailbox, contextlib.closing(target):
        queue = _existing(mailbox, place)
        count = min(mailbox.depth(queue) or 0, limit or 2**31)
        if dry_run:
            _finish({"would_send": count, "to": to}, f"{count} letters would be sent to {to}", output)
            return
        with letters.progress(count, quiet=output is Form.JSON) as advance:
            deliver = letters.paced(target.accepts, rate=rate, advance=advance)
            delivered, left = mailbox.drain(queue, count, deliver)
    problem = f"; the last refusal: {target.problem}" if left else ""
    counts: dict[str, Any] = {"delivered": delivered, "left": left, "problem": target.problem if left else ""}
    _finish(counts, f"{delivered} delivered, {left} left{problem}", output)
    if left:
        raise typer.Exit(FOUND)


@dlq.command()
def purge(
    place: Place,
    rabbitmq: RabbitMQ = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Form.TEXT,
) -> None:
    """Remove every dead letter of a queue, for good."""
    with _mailbox(rabbitmq) as mailbox:
        queue = _existing(mailbox, place)
        if not yes and not typer.confirm(f"Remove {mailbox.depth(queue)} letters of {place} for good?", err=True):
            raise typer.Exit(FOUND)
        removed = mailbox.purge(queue)
    _finish({"removed": removed}, f"{removed} removed", output)


def _finish(counts: dict[str, Any], line: str, output: Form) -> None:
    if output is Form.JSON:
        write_json(counts)
    else:
        console().print(line)


def _existing(mailbox: Mailbox, place: str) -> str:
    queue = letters.queue_of(place)
    if mailbox.depth(queue) is None:
        raise Fault(f"{place} has no dead-letter queue: RabbitMQ knows no {queue}; is the virtual host the right one?")
    return queue


@contextlib.contextmanager
def _mailbox(url: str | None) -> Iterator[Mailbox]:
    from knative_lambda.events.rabbitmq_mailbox import RabbitMQMailbox

    if not url:
        raise Fault("no RabbitMQ is named: set KN_LAMBDA_RABBITMQ=amqp://user:password@host:5672/, or give --rabbitmq")
    try:
        mailbox = RabbitMQMailbox(url)
    except ValueError as error:
        raise Fault(str(error)) from error
    try:
        yield mailbox
    finally:
        mailbox.close()
