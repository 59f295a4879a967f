"""The table of commands, and what surrounds each run of one: program name, --debug, errors, exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass
from typing import Annotated

import typer

from knative_lambda.cli.failures import FAULT, OK, line
from knative_lambda.cli.lazy import Lazy, LazyGroup

PROGRAM = "kn-lambda"
INTERRUPTED = 130

_FUNCTIONS = {"list": "list_functions"}
"""Commands that Python has another meaning for."""

COMMANDS = {
    name: Lazy(f"knative_lambda.cli.{function}", function, summary)
    for name, summary in {
        "dev": "Run a repository's functions on this host, without a cluster.",
        "init": "Begin a function: its directory, from a template.",
        "validate": "Check function directories, repositories and manifests; print findings by file and line.",
        "render": "Show what would be made of a function: defaults, build Job, Knative Service, Triggers.",
        "diff": "Compare functions with those of a cluster.",
        "list": "List functions: ready or not, revision, URL.",
        "describe": "Show one function: spec, conditions, build, triggers, last events.",
        "invoke": "Send a request or an event to a function; print its reply.",
        "logs": "Show what a function printed, or its build.",
        "events": "Show what happened to functions and repositories.",
        "delete": "Delete a function.",
        "dlq": "List, show, replay or purge dead letters.",
        "controller": "Run the controller.",
        "schemas": "Print, write or check JSON Schemas, CRDs and the API reference.",
        "build-context": "Fetch a function's source and lay out its build (init container of builds).",
        "version": "Print the version.",
    }.items()
    for function in (_FUNCTIONS.get(name, name.replace("-", "_")),)
}


class Commands(LazyGroup):
    """The commands of `kn-lambda`."""

    table = COMMANDS


@dataclass(slots=True)
class Session:
    """What the root options decided, for the rest of this run."""

    debug: bool = False


app = typer.Typer(
    cls=Commands,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Functions from git on Knative: begin, check, preview, call and watch them, and run the controller.

    \b
    kn-lambda init functions/hello           begin one
    kn-lambda validate .                     every function of this repository
    kn-lambda render functions/hello         what would be made of one
    kn-lambda diff functions -n shop         what would change in a cluster
    kn-lambda list                           what is there; also describe, invoke,
                                             logs -f, events -f
    kn-lambda schemas --crds | kubectl apply --server-side -f -
    kn-lambda COMMAND --help                 more, with examples

    Every command takes --output text or json. Exit codes: 0 done, 1 findings or differences, 2 usage or I/O error.
    """
    ctx.obj.debug = debug


def run(arguments: list[str], *, program: str) -> int:
    """Runs one command and returns its exit code. Called by main; errors end here, as one line on stderr."""
    session = Session()
    try:
        code = typer.main.get_command(app).main(
            args=arguments or ["--help"], prog_name=program, standalone_mode=False, obj=session
        )
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
        return OK
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        _close_stdout()  # typer ends the process itself when it was a command that met the closed pipe
        return OK
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place that can turn an error into a line for a person
        if session.debug:
            traceback.print_exc()
        sys.stderr.write(f"{program}: error: {line(error)}{_hint(error, program)}\n")
        return FAULT
    return code if isinstance(code, int) else OK


def _hint(error: Exception, program: str) -> str:
    """Where wrong usage is explained: the help of the command that was asked for."""
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path or program} --help)" if context is not None else ""


def _close_stdout() -> None:
    """The reader went away (`| head`): nothing is left to say, and nothing to complain about at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
