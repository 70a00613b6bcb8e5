"""The weights of the metric and the two sums."""

from __future__ import annotations

import numpy as np
import pytest

from pasture.targets import TARGETS, WEIGHTS, balance_gap, from_components


def test_weights_are_those_of_the_competition() -> None:
    expected = {"Dry_Green_g": 0.1, "Dry_Dead_g": 0.1, "Dry_Clover_g": 0.1, "GDM_g": 0.2, "Dry_Total_g": 0.5}
    assert dict(zip(TARGETS, WEIGHTS.tolist(), strict=True)) == expected


def test_components_give_five_targets_in_order() -> None:
    # green 3, dead 5, clover 7: GDM = 3 + 7, Total = 3 + 5 + 7
    np.testing.assert_array_equal(from_components(np.array([3.0, 5.0, 7.0])), [3, 5, 7, 10, 15])


@pytest.mark.parametrize("shape", [(), (4,), (0,), (2, 3)])
def test_components_keep_leading_axes(shape: tuple[int, ...]) -> None:
    targets = from_components(np.ones((*shape, 3)))
    assert targets.shape == (*shape, 5)
    assert balance_gap(targets).shape == shape


@pytest.mark.parametrize(
    ("row", "gap"),
    [
        ([3, 5, 7, 10, 15], 0.0),
        ([3, 5, 7, 10.25, 15], 0.25),
        ([3, 5, 7, 10, 14], 1.0),
        ([3, 5, 7, 9, 17], 2.0),
        ([4, 5, 7, 10, 15], 1.0),  # a wrong component breaks both sums
    ],
)
def test_gap_is_the_larger_violation_of_the_two_sums(row: list[float], gap: float) -> None:
    assert balance_gap(np.array(row, dtype=float)) == pytest.approx(gap)


def test_gap_is_given_for_each_row() -> None:
    rows = np.array([[3.0, 5, 7, 10, 15], [3, 5, 7, 10, 16]])
    np.testing.assert_allclose(balance_gap(rows), [0, 1])
