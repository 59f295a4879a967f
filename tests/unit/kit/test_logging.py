"""What a log looks like: on a terminal, in a pipe, and for machines."""

from __future__ import annotations

import json
import sys

import pytest
import structlog

from knative_lambda.kit import logging


def logged(capsys: pytest.CaptureFixture[str], form: str) -> str:
    logging.configure(form=form)
    structlog.get_logger("test").warning("away", problem="amqp://me:hunter2@host/")
    return capsys.readouterr().err


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_text_is_coloured_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = logged(capsys, "text")
    assert "away" in piped
    assert "\x1b" not in piped
    on_terminal(monkeypatch)
    assert "\x1b[" in logged(capsys, "text")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in logged(capsys, "text")


def test_auto_is_text_on_a_terminal_and_json_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(logged(capsys, "auto"))["event"] == "away"
    on_terminal(monkeypatch)
    assert "\x1b[" in logged(capsys, "auto")


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_masked(capsys: pytest.CaptureFixture[str], form: str) -> None:
    shown = logged(capsys, form)
    assert "hunter2" not in shown
    assert "amqp://***@host/" in shown
