"""The competition metric against numbers worked out by hand.

Truth: two images, A = (0, 0, 0, 0, 0) and B = (10, 0, 0, 10, 10).
Weighted mean: (.1 * 10 + .2 * 10 + .5 * 10) / 2 = 8 / 2 = 4.
Denominator: A: 1.0 * 4^2 = 16;  B: .8 * 6^2 + .2 * 4^2 = 28.8 + 3.2 = 32;  together 48.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pasture.metric import baseline_r2, residual_ss, target_r2, total_ss, weighted_r2
from pasture.targets import DEAD, TARGETS, WEIGHTS

TRUTH = np.array([[0.0, 0, 0, 0, 0], [10, 0, 0, 10, 10]])


@pytest.mark.parametrize(
    ("predictions", "score"),
    [
        (TRUTH, 1.0),
        (np.full((2, 5), 4.0), 0.0),  # the one weighted mean
        ([[0, 0, 0, 0, 0], [4, 0, 0, 10, 10]], 1 - 0.1 * 36 / 48),  # Green off by 6
        ([[0, 0, 0, 0, 0], [10, 0, 0, 4, 10]], 1 - 0.2 * 36 / 48),  # GDM off by 6
        ([[0, 0, 0, 0, 0], [10, 0, 0, 10, 4]], 1 - 0.5 * 36 / 48),  # Total off by 6
        ([[0, 6, 0, 0, 0], [10, 0, 6, 10, 10]], 1 - 0.2 * 36 / 48),  # Dead and Clover off by 6
        ([[10, 0, 0, 10, 10], [0, 0, 0, 0, 0]], 1 - 2 * 80 / 48),  # swapped: worse than the mean
    ],
)
def test_score_is_the_one_worked_out_by_hand(predictions: np.ndarray, score: float) -> None:
    assert weighted_r2(TRUTH, predictions) == pytest.approx(score, abs=1e-12)


def test_sums_of_squares_are_those_worked_out_by_hand() -> None:
    assert total_ss(TRUTH) == pytest.approx(48)
    assert residual_ss(TRUTH, TRUTH + 1) == pytest.approx(2)


def test_baseline_is_the_score_of_each_targets_own_mean() -> None:
    # Means (5, 0, 0, 5, 5): residual 2 * .8 * 25 = 40 of 48.
    assert baseline_r2(TRUTH) == pytest.approx(1 - 40 / 48)


def test_score_is_none_of_the_metrics_it_is_mistaken_for() -> None:
    generator = np.random.default_rng(0)
    truth = generator.gamma(2, 10, (50, 5)) * [1, 0.5, 0.3, 1.3, 2]
    predictions = truth + generator.normal(0, 8, truth.shape)
    each = np.array(list(target_r2(truth, predictions).values()))
    unweighted = 1 - ((truth - predictions) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    logs = weighted_r2(np.log1p(truth), np.log1p(predictions.clip(0)))
    for other in (each.mean(), each @ WEIGHTS, unweighted, logs):
        assert abs(weighted_r2(truth, predictions) - other) > 0.01


def test_score_equals_one_r2_over_the_long_table_with_sample_weights() -> None:
    r2_score = pytest.importorskip("sklearn.metrics").r2_score
    generator = np.random.default_rng(1)
    truth, predictions = generator.gamma(2, 10, (2, 30, 5))
    expected = r2_score(truth.ravel(), predictions.ravel(), sample_weight=np.tile(WEIGHTS, 30))
    assert weighted_r2(truth, predictions) == pytest.approx(expected)


@given(arrays(np.float64, (6, 5), elements=st.floats(0, 200)), st.permutations(range(6)))
def test_score_ignores_the_order_of_images(predictions: np.ndarray, order: list[int]) -> None:
    truth = np.arange(30.0).reshape(6, 5)
    assert weighted_r2(truth[order], predictions[order]) == pytest.approx(weighted_r2(truth, predictions))


def test_target_r2_is_ordinary_and_nan_where_a_target_is_constant() -> None:
    r2 = target_r2(TRUTH, [[1, 1, 0, 0, 5], [9, 0, 0, 10, 5]])
    assert list(r2) == list(TARGETS)
    np.testing.assert_allclose(list(r2.values()), [1 - 2 / 50, np.nan, np.nan, 1, 0], atol=1e-12)


# The mean of equal numbers that are no binary fractions is not always that number.
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 7.7])
@pytest.mark.parametrize("images", [1, 3, 10, 57])
def test_constant_truth_has_no_score(value: float, images: int) -> None:
    truth = np.full((images, 5), value)
    with pytest.raises(ValueError, match="constant"):
        weighted_r2(truth, truth + 1)
    with pytest.raises(ValueError, match="constant"):
        baseline_r2(truth)
    assert np.isnan(list(target_r2(truth, truth + 1).values())).all()


@pytest.mark.parametrize("score", [weighted_r2, target_r2])
@pytest.mark.parametrize(
    ("truth", "predictions"),
    [
        (TRUTH, TRUTH[:1]),
        (TRUTH[:, :4], TRUTH[:, :4]),
        (TRUTH[0], TRUTH[0]),
        (TRUTH[:0], TRUTH[:0]),
        (TRUTH[None], TRUTH[None]),
    ],
)
def test_other_shapes_are_refused(score: object, truth: np.ndarray, predictions: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must both be"):
        score(truth, predictions)  # type: ignore[operator]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    broken = TRUTH.copy()
    broken[1, DEAD] = bad
    for truth, predictions in ((broken, TRUTH), (TRUTH, broken)):
        with pytest.raises(ValueError, match="NaN or infinity"):
            weighted_r2(truth, predictions)
