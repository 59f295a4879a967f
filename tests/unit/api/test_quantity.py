"""Kubernetes quantities can be compared."""

from __future__ import annotations

from decimal import Decimal

import pytest

from knative_lambda.api import quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", "0"),
        ("1", "1"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("50m", "0.05"),
        ("250u", "0.00025"),
        ("5n", "0.000000005"),
        ("2k", "2000"),
        ("1M", "1000000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("64Mi", "67108864"),
        ("1.5Gi", "1610612736"),
        ("1E", "1000000000000000000"),
        ("1Ei", "1152921504606846976"),
        ("-1", "-1"),
    ],
)
def test_a_quantity_is_a_number(text: str, number: str) -> None:
    assert quantity.parse(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Mi", "64MB", "64 Mi", "one"])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 64Mi or 250m"):
        quantity.parse(text)
