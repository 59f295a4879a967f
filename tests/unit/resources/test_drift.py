"""What counts as drift, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from knative_lambda.resources import drift

COVERED: list[tuple[Any, Any]] = [
    ({}, {"a": 1}),
    ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}),
    ({"a": [{"n": "x"}]}, {"a": [{"n": "x", "defaulted": True}]}),
    ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}),
    ({"requests": {"memory": "1024Mi"}}, {"requests": {"memory": "1Gi", "cpu": "1"}}),
    ({"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "500m"}}),
    ({"limits": {"memory": "1e3"}}, {"limits": {"memory": "1k"}}),
    ({"emptyDir": {"sizeLimit": "1024Ki"}}, {"emptyDir": {"sizeLimit": "1Mi"}}),
]
DRIFTED: list[tuple[Any, Any]] = [
    ({"a": 1}, {}),
    ({"a": 1}, {"a": 2}),
    ({"a": {"b": 1}}, {"a": None}),
    ({"a": [1]}, {"a": [1, 2]}),
    ({"a": [1, 2]}, {"a": [2, 1]}),
    ({"a": True}, {"a": 1}),
    ({"a": [1]}, {"a": {"0": 1}}),
    ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1001m"}}),
    ({"limits": {"cpu": "1"}}, {"limits": {}}),
    ({"limits": {"cpu": "1"}}, {}),
    ({"value": "1000m"}, {"value": "1"}),
    ({"a": ""}, {}),
]


@pytest.mark.parametrize(("desired", "observed"), COVERED)
def test_what_the_server_adds_or_spells_otherwise_is_no_drift(desired: Any, observed: Any) -> None:
    assert drift.covers(desired, observed)


@pytest.mark.parametrize(("desired", "observed"), DRIFTED)
def test_a_field_of_ours_that_is_gone_or_changed_is_drift(desired: Any, observed: Any) -> None:
    assert not drift.covers(desired, observed)


@pytest.mark.parametrize("odd", ["", "Mi", "1Q", "1.2.3", None, True, [], "abc"])
def test_what_is_no_quantity_is_equal_to_itself_only(odd: Any) -> None:
    assert drift.same_quantity(odd, odd)
    assert not drift.same_quantity(odd, "1")
