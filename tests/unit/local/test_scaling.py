"""How many instances a revision should have."""

from __future__ import annotations

import pytest

from knative_lambda.local.serving.scaling import Load, Scale, Window, desired

pytestmark = pytest.mark.unit

TARGET_10 = Scale(target=10)


@pytest.mark.parametrize(
    ("load", "scale", "instances"),
    [
        (Load(0, 29.9), TARGET_10, 1),
        (Load(0, 30.0), TARGET_10, 0),
        (Load(1, 0.0), TARGET_10, 1),
        (Load(10, 0.0), TARGET_10, 1),
        (Load(11, 0.0), TARGET_10, 2),
        (Load(95, 0.0), TARGET_10, 8),
        (Load(95, 0.0), Scale(most=3, target=10), 3),
        (Load(95, 0.0), Scale(most=50, target=10), 8),
        (Load(0, 1000.0), Scale(least=2, target=10), 2),
        (Load(0, 1000.0), Scale(least=900, most=1000, target=10), 8),
        (Load(11, 1000.0), Scale(least=1, target=10), 2),
    ],
)
def test_instances_follow_the_load_within_their_bounds(load: Load, scale: Scale, instances: int) -> None:
    assert desired(load, scale, grace=30.0, host_limit=8) == instances


def test_without_a_grace_period_nothing_idle_is_kept() -> None:
    assert desired(Load(0, 0.0), TARGET_10, grace=0.0, host_limit=8) == 0


def test_a_window_remembers_the_most_until_it_is_old() -> None:
    window = Window(10.0)
    assert window.peak(0.0) == 0
    window.note(0.0, 2)
    window.note(1.0, 7)
    window.note(2.0, 3)
    window.note(3.0, 5)
    assert window.peak(3.0) == 7
    assert window.peak(11.9) == 7
    assert window.peak(12.0) == 5
    assert window.peak(1000.0) == 5


def test_a_number_that_is_noted_again_and_again_does_not_keep_the_peak_alive() -> None:
    window = Window(10.0)
    window.note(0.0, 4)
    for tick in range(1, 12):
        window.note(float(tick), 0)
    assert window.peak(10.9) == 4
    assert window.peak(11.0) == 0
