"""The projection against an independent solver, and the properties that a projection onto a convex cone has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import nnls

from pasture.metric import residual_ss
from pasture.projection import project
from pasture.targets import BALANCE, WEIGHTS, balance_gap, from_components

grams = st.floats(-200, 200)
predictions = arrays(np.float64, (5,), elements=grams)
batches = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(5)), elements=grams)
feasible = arrays(np.float64, (3,), elements=st.floats(0, 200)).map(from_components)


def reference(row: np.ndarray) -> np.ndarray:
    root = np.sqrt(WEIGHTS)
    return BALANCE @ nnls(root[:, None] * BALANCE, root * row)[0]


@settings(max_examples=300)
@given(predictions)
def test_agrees_with_non_negative_least_squares(row: np.ndarray) -> None:
    np.testing.assert_allclose(project(row), reference(row), atol=1e-8)


@pytest.mark.parametrize("signs", list(np.ndindex(2, 2, 2, 2, 2)))
def test_agrees_in_every_orthant(signs: tuple[int, ...]) -> None:
    rows = np.random.default_rng(0).gamma(1, 20, (20, 5)) * (1 - 2 * np.array(signs))
    np.testing.assert_allclose(project(rows), np.stack([reference(row) for row in rows]), atol=1e-8)


@given(batches)
def test_result_is_feasible(rows: np.ndarray) -> None:
    result = project(rows)
    assert (result >= 0).all()
    assert balance_gap(result).max() <= 1e-9


@given(batches)
def test_projecting_twice_changes_nothing(rows: np.ndarray) -> None:
    once = project(rows)
    np.testing.assert_allclose(project(once), once, atol=1e-9)


@given(predictions, feasible)
def test_never_moves_away_from_a_feasible_truth(row: np.ndarray, truth: np.ndarray) -> None:
    before, after = residual_ss(truth[None], row[None]), residual_ss(truth[None], project(row)[None])
    assert after <= before * (1 + 1e-9) + 1e-9


@given(batches)
def test_mean_of_projections_needs_no_projection(rows: np.ndarray) -> None:
    mean = project(rows).mean(axis=0)
    np.testing.assert_allclose(project(mean), mean, atol=1e-9)


def test_follows_the_weights() -> None:
    # Only Total is off, by +10. Unweighted, the residual would be shared in other proportions.
    row = np.array([20.0, 20, 20, 40, 70])
    result = project(row)
    np.testing.assert_allclose(result, reference(row), atol=1e-9)
    assert result[4] - 60 > 70 - result[4]  # half of all weight is on Total: it wins


@pytest.mark.parametrize("shape", [(5,), (0, 5), (3, 5), (2, 3, 5)])
def test_keeps_the_shape_and_treats_rows_alone(shape: tuple[int, ...]) -> None:
    rows = np.random.default_rng(1).normal(0, 30, shape)
    result = project(rows)
    assert result.shape == shape
    for index in np.ndindex(shape[:-1]):
        np.testing.assert_allclose(result[index], project(rows[index]), atol=1e-12)


def test_leaves_its_argument_alone() -> None:
    rows = np.full((2, 5), -1.0)
    project(rows)
    assert (rows == -1).all()


@pytest.mark.parametrize("shape", [(), (4,), (5, 4), (5, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        project(np.zeros(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        project([[1, 2, 3, 4, 5], [1, bad, 3, 4, 5]])
