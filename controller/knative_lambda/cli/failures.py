"""How a command says that it could not do its work: one line on stderr, exit code 2, a traceback only with --debug."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from knative_lambda.kit import redact

if TYPE_CHECKING:
    from pydantic import ValidationError

OK, FOUND, FAULT = 0, 1, 2
"""Exit codes of every command: done; differences or findings; wrong usage, or something could not be read."""


class Fault(Exception):
    """Something that the person at the keyboard can mend; the message says what, where, and what to do."""


def line(error: BaseException) -> str:
    """An error as one line, secrets masked. Called by cli.app for whatever left a command."""
    return redact.text(" ".join(_words(error).split()))


def _words(error: BaseException) -> str:
    from pydantic import ValidationError

    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_words(one) for one in error.exceptions)
    if isinstance(error, typer.TyperException):
        return error.format_message()
    if isinstance(error, ValidationError):
        return _first_of(error)
    if isinstance(error, OSError) and (words := error.strerror or str(error)):
        return f"{error.filename}: {words}" if error.filename else words
    if isinstance(error, _expected()):
        return f"{error}{_advice(error)}"
    return f"unexpected {type(error).__name__}: {error} (--debug before the command shows where)"


def _advice(error: BaseException) -> str:
    """For a text that was written where nobody knows who asks."""
    from knative_lambda.cluster.base import Unavailable

    is_away = isinstance(error, Unavailable)
    return "; is the cluster up, and is it the one that --kubeconfig and --context name?" if is_away else ""


def _first_of(error: ValidationError) -> str:
    """The first thing that pydantic found, and how many more there are."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}{more}"


def _expected() -> tuple[type[BaseException], ...]:
    """Errors whose text is written for people; imported late, for most runs have none."""
    from knative_lambda.cluster.base import ClusterError
    from knative_lambda.events.mailbox import MailboxError
    from knative_lambda.settings import SettingsError
    from knative_lambda.sources.base import SourceError

    return Fault, ClusterError, MailboxError, SettingsError, SourceError
