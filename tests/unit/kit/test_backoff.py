"""Losers wait longer and longer, and not all equally long."""

from __future__ import annotations

import pytest

from knative_lambda.kit.backoff import Backoff


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(base=1, cap=10)
    assert [backoff.ceiling(attempt) for attempt in range(6)] == [1, 2, 4, 8, 10, 10]


def test_a_wait_lies_between_half_of_its_ceiling_and_the_ceiling() -> None:
    backoff = Backoff(base=1, cap=300)
    for attempt in range(20):
        for _ in range(50):
            assert backoff.ceiling(attempt) / 2 <= backoff.delay(attempt) <= backoff.ceiling(attempt)


def test_waits_differ() -> None:
    assert len({Backoff().delay(5) for _ in range(20)}) > 1


@pytest.mark.parametrize("attempt", [64, 10_000, 10**9])
def test_a_wait_after_countless_attempts_is_the_cap(attempt: int) -> None:
    assert Backoff().ceiling(attempt) == 300
