"""git's words as reasons."""

from __future__ import annotations

import pytest

from knative_lambda.api.conditions import Reason
from knative_lambda.sources import gitcomplaints as complaints


@pytest.mark.parametrize(
    ("text", "reason", "retry"),
    [
        ("fatal: Authentication failed for 'https://h/x/'", Reason.AUTHENTICATION_FAILED, False),
        (
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
            Reason.AUTHENTICATION_FAILED,
            False,
        ),
        (
            "git@h: Permission denied (publickey).\nfatal: Could not read from remote",
            Reason.AUTHENTICATION_FAILED,
            False,
        ),
        ("Host key verification failed.\nfatal: Could not read from remote", Reason.AUTHENTICATION_FAILED, False),
        ("fatal: couldn't find remote ref refs/heads/x", Reason.REF_NOT_FOUND, False),
        ("fatal: remote error: upload-pack: not our ref 123", Reason.REF_NOT_FOUND, False),
        ("remote: Repository not found.\nfatal: repository 'https://h/x/' not found", Reason.SOURCE_NOT_FOUND, False),
        ("ERROR: Repository not found.\nfatal: Could not read from remote", Reason.SOURCE_NOT_FOUND, False),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 404", Reason.SOURCE_NOT_FOUND, False),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 301", Reason.SOURCE_REFUSED, False),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 503", Reason.UNREACHABLE, True),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", Reason.UNREACHABLE, True),
        ("fatal: unable to access 'https://h/': SSL certificate problem: expired", Reason.UNREACHABLE, True),
        (
            "error: object 12: hasDotdot: contains '..'\nfatal: fsck error in packed object",
            Reason.SOURCE_REFUSED,
            False,
        ),
        ("something that no git ever said", Reason.UNREACHABLE, True),
        ("", Reason.UNREACHABLE, True),
    ],
)
def test_every_complaint_has_a_reason(text: str, reason: Reason, retry: bool) -> None:
    error = complaints.classify(text, what="cannot ask")
    assert (error.reason, error.retry) == (reason, retry)
    assert error.message.startswith("cannot ask: ")


def test_what_differs_at_every_attempt_is_left_out() -> None:
    words = (
        "fatal: unable to access 'http://h/': Failed to connect to h port 80 after {} ms: Couldn't connect to server"
    )
    first, second = (complaints.classify(words.format(number), what="x").message for number in (1, 23))
    assert first == second


def test_secrets_in_urls_are_masked() -> None:
    text = "fatal: unable to access 'https://me:pa55@h/x.git/': The requested URL returned error: 500"
    assert "pa55" not in complaints.classify(text, what="x").message
