"""Secrets do not reach people, logs and statuses."""

from __future__ import annotations

import pytest

from knative_lambda.kit import redact

SECRET = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    "message",
    [
        f"cannot clone https://me:{SECRET}@git.example.com/x.git",
        f"cannot clone https://{SECRET}@git.example.com/x.git",
        f"amqp://user:{SECRET}@mq:5672/ refused",
        f"amqp://user:password{SECRET}@mq:5672/ refused",
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"X-Hub-Signature-256: sha256={SECRET}",
        f"Cookie: session={SECRET}",
        f"password={SECRET}",
        f"RABBITMQ_PASSWORD: {SECRET}",
        f'secretKey = "{SECRET}"',
        f'{{"password": "{SECRET}", "user": "me"}}',
        f"private_key={SECRET}",
        f"api-key={SECRET}&x=1",
        f"access_key: '{SECRET}'",
        "ghp_" + SECRET,
        "glpat-" + SECRET,
        "AKIA" + "A1B2C3D4E5F6G7H8",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
def test_a_secret_is_masked(message: str) -> None:
    shown = redact.text(message)
    assert SECRET not in shown
    assert redact.MASK in shown
    assert "AKIAA1B2" not in shown
    assert "eyJzdWIi" not in shown


@pytest.mark.parametrize(
    "message",
    [
        "secret github in namespace shop does not exist",
        "https://git.example.com/x.git answered 404",
        "me@example.com pushed",
        "the token ends",
        "3 of 5 functions are Ready",
        "write amqp://user:password@host:5672/vhost",
    ],
)
def test_ordinary_words_stay(message: str) -> None:
    assert redact.text(message) == message


def test_what_surrounds_a_secret_stays() -> None:
    assert redact.text(f"clone https://me:{SECRET}@h/x: 403") == "clone https://***@h/x: 403"


def test_masking_twice_changes_nothing() -> None:
    once = redact.text(f"password={SECRET} https://a:{SECRET}@h")
    assert redact.text(once) == once


def test_a_long_log_keeps_its_end() -> None:
    assert redact.clip("0123456789", 10) == "0123456789"
    assert redact.clip("0123456789", 4) == "…789"
