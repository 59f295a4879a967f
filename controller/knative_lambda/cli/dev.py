"""`kn-lambda dev`: functions of a folder, a repository or a URL, on this host, with no cluster and no Docker."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knative_lambda.cli.board import Row, row
from knative_lambda.cli.failures import Fault
from knative_lambda.cli.screens import Display, JsonLines, Lines, LiveTable

if TYPE_CHECKING:
    from knative_lambda.api.meta import Key
    from knative_lambda.local.dev import Options, Screen, Stage
    from knative_lambda.machinery.process import Service


NO_FUNCTIONS = "there are no functions yet; `kn-lambda init NAME`, in the folder, begins one"


def dev(
    place: Annotated[str, typer.Argument(metavar="[REPO]", help="Folder, git repository or URL of functions.")] = ".",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where functions answer; 0 takes any.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the functions.")] = "default",
    watch: Annotated[
        bool | None,
        typer.Option("--watch/--no-watch", help="Take what is saved (default for a folder), or what is committed."),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What is kept between starts; a cache folder per repository.")
    ] = None,
    rabbitmq: Annotated[
        str | None,
        typer.Option(
            envvar="KN_LAMBDA_RABBITMQ",
            show_envvar=True,
            help="amqp(s):// URL of a RabbitMQ for lifecycle events; only the environment hides it from process lists.",
        ),
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds without a request until any function sleeps; else it says so itself."),
    ] = None,
    backoff: Annotated[
        float, typer.Option(min=0.01, max=60, help="Seconds before an event is tried again; then twice as long, …")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")] = False,
    log: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Show the controllers' own log on stderr: info, debug, …")
    ] = None,
) -> None:
    """Run a repository's functions on this host, and again whenever one is saved. No cluster, no Docker.

    \b
    kn-lambda dev functions-example-repo
    curl http://127.0.0.1:8080/fn/default/hello-python
    curl http://hello-python.default.localhost:8080
    kn-lambda dev https://github.com/me/functions.git --port 0 --json

    The same controllers run as in a cluster. An event is sent to http://127.0.0.1:8080/broker/default/default, and
    what a function does not take ends in its dead letters: kn-lambda dlq list --state-dir DIR.

    Ctrl-C ends every process. Exit codes: 0 ended by ctrl-C, 2 it could not start.
    """
    _check_installed()
    from knative_lambda.local.dev import DevError, Options
    from knative_lambda.local.origin import OriginError
    from knative_lambda.local.state import default_state

    options = Options(
        place=place,
        state=state_dir or default_state(place),
        host=host,
        port=port,
        namespace=namespace,
        watch=watch,
        rabbitmq=rabbitmq or "",
        idle_seconds=idle,
        backoff_seconds=backoff,
    )
    try:
        asyncio.run(_run(options, as_json=as_json, log=log))
    except (DevError, OriginError) as error:
        raise Fault(str(error)) from error


def _check_installed() -> None:
    for needed in ("cryptography", "watchdog"):
        if importlib.util.find_spec(needed) is None:
            raise Fault(f"local mode needs {needed}: pip install 'knative-lambda[local]'")


async def _run(options: Options, *, as_json: bool, log: str | None) -> None:
    from knative_lambda.kit import logging
    from knative_lambda.local import dev as process
    from knative_lambda.machinery.process import stop_on_signals

    logging.configure(level=log or "critical", form="text")
    stop = asyncio.Event()
    stop_on_signals(stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a terminal that is closed; not below nohup
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set)
    await process.run(options, stop=stop, screen=_screen(as_json=as_json))


def _screen(*, as_json: bool) -> Screen:
    from knative_lambda.machinery.process import Service

    def screen(stage: Stage) -> Service:
        rows: dict[Key, Row] = {}
        table = (
            None
            if as_json or not sys.stdout.isatty()
            else LiveTable(rows, lambda key: stage.server.replicas(key).running)
        )
        display: Display = table or (JsonLines() if as_json else Lines())

        async def run() -> None:
            with table.drawn() if table else nullcontext():
                display.begin(stage.url, stage.options.place)
                await asyncio.gather(
                    _functions(stage, rows, display), _repository(stage, display), _events(stage, display)
                )

        return Service("screen", run)

    return screen


async def _functions(stage: Stage, rows: dict[Key, Row], display: Display) -> None:
    from knative_lambda.api import kinds
    from knative_lambda.kit.clock import SystemClock
    from knative_lambda.machinery.informer import Informer

    def changed(key: Key, before: Row | None, after: Row | None) -> None:
        if after is None:
            rows.pop(key, None)
            display.gone(key)
            return
        rows[key] = after
        if after.news(before):
            display.function(after)

    informer = Informer(stage.cluster, kinds.LAMBDA_FUNCTION, row, clock=SystemClock())
    informer.on_change(changed)
    await informer.run()


async def _repository(stage: Stage, display: Display) -> None:
    from knative_lambda.api import kinds
    from knative_lambda.kit.clock import SystemClock
    from knative_lambda.machinery.informer import Informer

    def changed(_key: Key, before: tuple[str, ...] | None, after: tuple[str, ...] | None) -> None:
        for text in after or ():
            if text not in (before or ()):
                display.problem(text)

    informer = Informer(stage.cluster, kinds.FUNCTION_REPOSITORY, problems, clock=SystemClock())
    informer.on_change(changed)
    await informer.run()


def problems(obj: dict[str, Any]) -> tuple[str, ...]:
    """What is wrong with a repository: its findings by file and line, or else why it is not ready."""
    status = obj.get("status") or {}
    findings = tuple(
        f"{one['file']}:{one['line']}: {one['message']}" if one.get("line") else f"{one['file']}: {one['message']}"
        for one in status.get("findings") or ()
    )
    ready = next((one for one in status.get("conditions") or () if one["type"] == "Ready"), None)
    if not findings and status.get("appliedRevision") and not status.get("functions"):
        return (NO_FUNCTIONS,)
    if findings or ready is None or ready["status"] != "False":
        return findings
    return (ready.get("message") or ready["reason"],)


async def _events(stage: Stage, display: Display) -> None:
    from knative_lambda.local.heard import Link, Remark
    from knative_lambda.local.messaging.delivery import Notice

    while True:
        heard = await stage.heard.next()
        if isinstance(heard, Notice):
            display.delivery(heard)
        elif isinstance(heard, Link):
            display.link(heard.problem)
        elif isinstance(heard, Remark):
            display.remark(heard.subject, heard.text)
        else:
            display.event(heard)
