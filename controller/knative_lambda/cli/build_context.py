"""`kn-lambda build-context`: the init container of a build. Fetches the source and lays out what Kaniko builds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from knative_lambda.cli import failures
from knative_lambda.cli.output import Form, Output, write, write_json
from knative_lambda.resources import build_request
from knative_lambda.resources.build_request import CREDENTIALS, EXIT_REFUSED, VARIABLE, WORKSPACE, BuildRequestError

TERMINATION_LOG = Path("/dev/termination-log")
"""Mounted by the kubelet, which puts its content into the Pod's status."""
_MESSAGE_BYTES = 4000
"""The kubelet keeps 4,096."""


def build_context(
    request: Annotated[
        str, typer.Option(metavar="TEXT", envvar=VARIABLE, show_envvar=True, help="What to build, as the Job was told.")
    ],
    into: Annotated[Path, typer.Option(metavar="DIR", help="Empty directory that is filled.")] = Path(WORKSPACE),
    credentials: Annotated[
        Path, typer.Option(metavar="DIR", help="The source's Secret, a file per key; need not be there.")
    ] = Path(CREDENTIALS),
    termination_log: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the reason of a failure goes, where that file is there.")
    ] = TERMINATION_LOG,
    output: Output = Form.TEXT,
) -> None:
    """Fetch a function's source and write Dockerfile, shim and code for its build.

    Runs in the init container of a build Job, which gives BUILD_REQUEST; sources are held to limits of size, number,
    depth and time, and to the addresses that KN_LAMBDA_ALLOW_NETWORKS and our own rules allow.

    \b
    BUILD_REQUEST=... kn-lambda build-context
    kn-lambda build-context --request "$BUILD_REQUEST" --termination-log reason

    Exit codes: 0 done, 1 trouble that may pass (the Job tries again), 2 wrong usage, 65 a source that a person must
    mend (the Job fails at once).
    """
    from knative_lambda import settings as configuration
    from knative_lambda.sources import context
    from knative_lambda.sources.base import FetchLimits, SourceError
    from knative_lambda.wiring import adapters

    policy = adapters.dial_policy(configuration.load(events="none"))
    try:
        asked = build_request.decode(request)
        found = context.write_context(
            asked, credentials_dir=credentials, into=into, policy=policy, limits=FetchLimits()
        )
    except BuildRequestError as error:
        _fail(error, code=EXIT_REFUSED, log=termination_log)
    except SourceError as error:
        _fail(error, code=context.exit_code(error), log=termination_log)
    except OSError as error:
        _fail(error, code=context.EXIT_RETRY, log=termination_log)
    if output is Form.JSON:
        write_json({"function": str(asked.function), "revision": found.revision, "digest": found.digest})
    else:
        write(f"{asked.function}: revision {found.revision} is laid out in {into}\n")


def _fail(error: Exception, *, code: int, log: Path) -> NoReturn:
    """The reason as last line of the log, and where the kubelet looks for it."""
    reason = failures.line(error)
    if log.is_file():
        log.write_bytes(reason.encode()[:_MESSAGE_BYTES])
    sys.stderr.write(f"{reason}\n")
    raise typer.Exit(code)
