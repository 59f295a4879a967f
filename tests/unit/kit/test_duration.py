"""Durations as Kubernetes writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from knative_lambda.kit import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1h1m1s", 3661),
        ("90m", 5400),
        ("24h", 86400),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: int) -> None:
    assert duration.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "5 m", "1d", "-5m", "1.5h", "30s5m", "m", "5m\n", "5m\n5m"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s, 5m or 1h30m"):
        duration.parse(text)


@pytest.mark.parametrize("text", ["0s", "30s", "5m", "1h", "1h30m", "2h5s"])
def test_a_duration_is_written_as_it_was_read(text: str) -> None:
    assert duration.render(duration.parse(text)) == text


def test_parts_are_carried_over_when_written() -> None:
    assert duration.render(timedelta(seconds=3600 + 90)) == "1h1m30s"
