"""Topic patterns; tests/contract/test_bus.py compares a table of them with RabbitMQ."""

from __future__ import annotations

import pytest

from knative_lambda.events import topic


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("#", "lambda.build.started", True),
        ("#", "", True),
        ("", "", True),
        ("", "lambda", False),
        ("*", "", False),
        ("lambda.#", "lambda", True),
        ("lambda.#", "lambda.build.started", True),
        ("lambda.#", "lambdas.build", False),
        ("lambda.*.started", "lambda.build.started", True),
        ("lambda.*.started", "lambda.started", False),
        ("lambda.*", "lambda.build.started", False),
        ("#.started", "lambda.build.started", True),
        ("#.started", "started", True),
        ("#.build.#.started", "lambda.build.of.mine.started", True),
        ("#.build.#.started", "lambda.built.started", False),
        ("*.#.*", "lambda", False),
        ("*.#.*", "lambda.build", True),
        ("#.#.#.#.#.x", "a.b.c.d.e.f", False),
    ],
)
def test_pattern_takes_key(pattern: str, key: str, expected: bool) -> None:
    assert topic.matches(pattern, key) is expected


def test_a_hostile_pattern_takes_no_exponential_time() -> None:
    assert not topic.matches(".".join(["#", "a"] * 200), ".".join(["a"] * 150))
