"""Errors become lines for people, without secrets."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import Scaling
from knative_lambda.cli import failures
from knative_lambda.cluster.base import Forbidden, Unavailable
from knative_lambda.settings import SettingsError
from knative_lambda.sources.base import SourceError


def _invalid() -> ValidationError:
    with pytest.raises(ValidationError) as refused:
        Scaling.model_validate({"minReplicas": -1, "maxReplicas": "many"})
    return refused.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (failures.Fault("give one of --write and --check"), "give one of --write and --check"),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), "x.yaml: No such file or directory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("cannot listen on 127.0.0.1 port 80"), "cannot listen on 127.0.0.1 port 80"),
        (ConnectionResetError(), "unexpected ConnectionResetError: (--debug before the command shows where)"),
        (ExceptionGroup("two", [failures.Fault("one"), OSError(13, "Permission denied")]), "one; Permission denied"),
        (
            Unavailable("no answer"),
            "no answer; is the cluster up, and is it the one that --kubeconfig and --context name?",
        ),
        (Forbidden("you may not list"), "you may not list"),
        (SettingsError("no RabbitMQ is named"), "no RabbitMQ is named"),
        (SourceError(Reason.SOURCE_REFUSED, "the tree is too large"), "the tree is too large"),
        (failures.Fault("two\nlines   and\tmore"), "two lines and more"),
        (failures.Fault("https://me:secret@h/x is away"), "https://***@h/x is away"),
        (_invalid(), "minReplicas: Input should be greater than or equal to 0 (and 1 more)"),
        (KeyError("spec"), "unexpected KeyError: 'spec' (--debug before the command shows where)"),
    ],
)
def test_an_error_is_a_line(error: Exception, line: str) -> None:
    assert failures.line(error) == line
