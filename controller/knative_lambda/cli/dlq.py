"""`kn-lambda dlq`: what functions could not take: list, show, replay, purge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from knative_lambda.cli import clusters, letters
from knative_lambda.cli.desk import Desk
from knative_lambda.cli.failures import FOUND, Fault
from knative_lambda.cli.output import Form, Output, console, write_json
from knative_lambda.events.resending import Mode

if TYPE_CHECKING:
    from knative_lambda.cli.replaying import Outcome
    from knative_lambda.events.mailbox import Mailbox

HELP = """What functions could not take, kept in RabbitMQ or by local mode: list, show, replay or purge it.

\b
export KN_LAMBDA_RABBITMQ=amqp://user:password@localhost:5672/
kn-lambda dlq list                       how many letters wait
kn-lambda dlq show shop/orders           what is in the oldest, and why
kn-lambda dlq replay shop/orders         send them to the function again
kn-lambda dlq purge shop/orders          remove them for good
kn-lambda dlq list --local               those of kn-lambda dev

Exit codes: 0 done, 1 letters are left, 2 usage error, or RabbitMQ or the cluster cannot be asked, 130 interrupted.
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
Functions = Annotated[
    list[str] | None, typer.Argument(metavar="NAMESPACE/FUNCTION", help="Functions; the cluster is asked if none.")
]
Place = Annotated[
    str, typer.Argument(metavar="NAMESPACE/FUNCTION|catch-all", help="A function, or the queue for everything else.")
]
Kubeconfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Cluster to ask; $KUBECONFIG or ~/.kube/config by default.")
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
StateDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="State folder of a local mode, which need not run any more.")
]


@dlq.command("list")
def list_queues(
    functions: Functions = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only functions of this namespace.")
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    rabbitmq: RabbitMQ = None,
    local: clusters.Local = False,
    state_dir: StateDir = None,
    output: Output = Form.TEXT,
) -> None:
    """Count the dead letters of functions, and those in the catch-all queue.

    Without names, the cluster says which functions have triggers. With names, no cluster is needed, and queues of
    functions that are gone are found, too.

    \b
    kn-lambda dlq list                             every function with triggers
    kn-lambda dlq list -n shop                     those of one namespace
    kn-lambda dlq list shop/orders shop/gone       these, without a cluster
    kn-lambda dlq list -o json | jq '.[] | select(.letters > 0)'

    Exit codes: 0 counted, 2 RabbitMQ or the cluster cannot be asked.
    """
    if functions and namespace:
        raise Fault("-n is for asking the cluster; names have their namespace: NAMESPACE/FUNCTION")
    rows = [letters.Row(letters.CATCH_ALL)]
    if functions:
        rows = [letters.Row(place) for place in functions] + rows
    queues = {row.place: letters.queue_of(row.place) for row in rows}
    desk = Desk(rabbitmq, kubeconfig, context, local, state_dir)
    desk.check()
    if not functions:
        rows = _of_cluster(namespace, desk) + rows
        queues = {row.place: letters.queue_of(row.place) for row in rows}
    with desk.mailbox() as mailbox:
        depths = {place: mailbox.depth(queue) for place, queue in queues.items()}
    if output is Form.JSON:
        write_json([row.told(depths[row.place]) for row in rows])
        return
    for line, style in letters.table(rows, depths, with_condition=not functions):
        console().print(line, style=style)


@dlq.command()
def show(
    place: Place,
    rabbitmq: RabbitMQ = None,
    local: clusters.Local = False,
    state_dir: StateDir = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 10,
    output: Output = Form.TEXT,
) -> None:
    """Show dead letters, the oldest first. They stay in the queue.

    RabbitMQ may put what was shown at the end of the queue, so that another call shows others.

    ce-knativeerrorcode is the status that the function answered, ce-knativeerrordest the address that was tried,
    ce-knativeerrordata the answer in base64.

    \b
    kn-lambda dlq show shop/orders
    kn-lambda dlq show shop/orders --limit 1 -o json
    kn-lambda dlq show catch-all                   also what was no CloudEvent

    Exit codes: 0 shown, or there is none, 2 no such queue, or RabbitMQ cannot be asked.
    """
    desk = Desk(rabbitmq, local=local, state_dir=state_dir)
    with desk.mailbox() as mailbox:
        found = mailbox.peek(_existing(mailbox, place, desk), limit)
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
    to: Annotated[
        str | None, typer.Option(metavar="URL", help="Where to send them; the function's own address by default.")
    ] = None,
    rabbitmq: RabbitMQ = None,
    local: clusters.Local = False,
    state_dir: StateDir = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Letters per second; 0 is unlimited.")] = 50.0,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds that one delivery may take.")] = 30.0,
    give_up_after: Annotated[
        int, typer.Option(min=0, help="Stop when so many letters in a row got no answer at all; 0 is never.")
    ] = 10,
    mode: Annotated[Mode, typer.Option(help="How events are laid out in HTTP; as they came, or all in one way.")] = (
        Mode.AS_IS
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = Form.TEXT,
) -> None:
    """Send dead letters again. One leaves its queue only after its target accepted it (2xx).

    Only letters that are there at the start are sent; what the target refuses stays. Without --to the
    cluster is asked for the function's address (status.url). Redirects are not followed. Ctrl-C ends the replay
    between two letters.

    \b
    kn-lambda dlq replay shop/orders --dry-run
    kn-lambda dlq replay shop/orders --limit 1     try one
    kn-lambda dlq replay shop/orders --rate 10     then the others, slowly
    kn-lambda dlq replay shop/orders --to http://localhost:8080
    kn-lambda dlq replay catch-all --to BROKER-URL

    Exit codes: 0 all were accepted, 1 some are left, 2 it could not be tried, 130 interrupted.
    """
    from knative_lambda.cli import replaying
    from knative_lambda.cli.target import Target, address

    letters.queue_of(place)
    pace = replaying.Pace(rate=rate, give_up_after=give_up_after)
    given = address(to) if to else None
    desk = Desk(rabbitmq, kubeconfig, context, local, state_dir)
    desk.check()
    url = given or address(_own_address(place, desk))
    with desk.mailbox() as mailbox, Target(url, timeout=timeout, mode=mode) as target:
        queue = _existing(mailbox, place, desk)
        count = min(mailbox.depth(queue) or 0, limit or sys.maxsize)
        if dry_run:
            _tell({"would_send": count, "to": url}, f"{letters.count(count)} would be sent to {url}", output)
            return
        with replaying.progress(count, quiet=output is Form.JSON) as advance:
            outcome = replaying.replay(mailbox, queue, count, target=target, pace=pace, advance=advance)
    _report(outcome, count=count, output=output)


@dlq.command()
def purge(
    place: Place,
    rabbitmq: RabbitMQ = None,
    local: clusters.Local = False,
    state_dir: StateDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can answer.")] = False,
    output: Output = Form.TEXT,
) -> None:
    """Remove every dead letter of a queue, for good. The queue stays.

    \b
    kn-lambda dlq purge shop/orders                asks first
    kn-lambda dlq purge catch-all --yes            in a script

    Exit codes: 0 removed, 1 you said no, 2 no such queue, or nobody could be asked.
    """
    if not yes and not sys.stdin.isatty():
        raise Fault("nobody can be asked here (stdin is no terminal): give --yes to remove letters for good")
    desk = Desk(rabbitmq, local=local, state_dir=state_dir)
    with desk.mailbox() as mailbox:
        queue = _existing(mailbox, place, desk)
        waiting = letters.count(mailbox.depth(queue) or 0)
        if not yes and not typer.confirm(f"Remove {waiting} of {place} for good?", err=True):
            raise typer.Exit(FOUND)
        removed = mailbox.purge(queue)
    _tell({"removed": removed}, f"{removed} removed", output)


def _of_cluster(namespace: str | None, desk: Desk) -> list[letters.Row]:
    from knative_lambda.cli import deployed

    found = deployed.ask(
        desk.site(),
        lambda cluster: deployed.listening(cluster, namespace),
        instead=f"name the functions, then no cluster is needed: kn-lambda dlq list NAMESPACE/FUNCTION{desk.aside()}",
    )
    return [
        letters.Row(str(one.key), letters.Condition(one.status, one.reason, one.message) if one.status else None)
        for one in found
    ]


def _own_address(place: str, desk: Desk) -> str:
    from knative_lambda.cli import deployed

    if place == letters.CATCH_ALL:
        raise Fault("catch-all holds letters of many functions: say where they shall go, with --to URL")
    return deployed.ask(
        desk.site(),
        lambda cluster: deployed.url(cluster, letters.key_of(place)),
        instead=f"say where the letters shall go, then no cluster is needed: --to URL{desk.aside()}",
    )


def _report(outcome: Outcome, *, count: int, output: Form) -> None:
    """What became of the letters, and the exit code that says so."""
    left = count - outcome.delivered if outcome.ended else outcome.refused
    problem = "; ".join(filter(None, (outcome.ended, outcome.problem if left else "")))
    told = f"{outcome.delivered} delivered, {left} left" + (f"; {problem}" if problem else "")
    _tell({"delivered": outcome.delivered, "left": left, "problem": problem}, told, output)
    if outcome.ended == "interrupted":
        raise typer.Abort
    if left:
        raise typer.Exit(FOUND)


def _tell(counts: dict[str, int | str], line: str, output: Form) -> None:
    if output is Form.JSON:
        write_json(counts)
    else:
        console().print(line)


def _existing(mailbox: Mailbox, place: str, desk: Desk) -> str:
    queue = letters.queue_of(place)
    if mailbox.depth(queue) is None:
        raise Fault(f"{place} has no dead-letter queue: {desk.without(queue)}")
    return queue
