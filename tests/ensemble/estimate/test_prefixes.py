"""Scores of the heaviest members of a blend alone."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.estimate.prefixes import heaviest, prefixes
from ensemble.estimate.scores import evaluate
from ensemble.weighting.auto import procedure
from ensemble.weighting.library import Library
from ensemble.weighting.options import Options
from pasture.metric import weighted_r2
from pasture.targets import Array


@pytest.fixture
def library() -> Library:
    """Six members of falling quality on 40 images of 10 dates."""
    rng = np.random.default_rng(0)
    truth = rng.gamma(2.0, 10.0, (40, 5))
    members = np.stack([truth + rng.normal(0, 4 + 3 * i, truth.shape) for i in range(6)])
    return Library.of_arrays(truth, members, np.arange(40) // 4)


def alike(*weights: float) -> Array:
    return np.repeat(np.array(weights)[:, None], 5, axis=1)


def test_the_lightest_are_dropped_and_the_others_scaled() -> None:
    np.testing.assert_allclose(heaviest(alike(0.2, 0.5, 0.3), 2), alike(0, 0.625, 0.375))
    np.testing.assert_allclose(heaviest(alike(0.2, 0.5, 0.3), 3), alike(0.2, 0.5, 0.3))
    per_target = np.array([[0.9, 0.1, 0.5, 0.5, 0.5], [0.1, 0.9, 0.5, 0.5, 0.5], [0.0, 0.0, 0.1, 0.1, 0.1]])
    np.testing.assert_allclose(heaviest(per_target, 2).sum(axis=0), per_target.sum(axis=0))


@pytest.mark.heavy
def test_from_the_heaviest_alone_to_the_blend(library: Library) -> None:
    greedy = procedure("greedy", Options())
    estimate = evaluate(library, greedy)
    found = prefixes(library, greedy, estimate.weights, estimate.nested)
    assert [each.members for each in found] == list(range(1, int(estimate.weights.any(axis=1).sum()) + 1))
    assert len(found) > 2
    assert found[-1].nested == estimate.nested
    assert found[-1].fitted == pytest.approx(estimate.fitted)
    best = estimate.weights.mean(axis=1).argmax()
    assert found[0].fitted == pytest.approx(weighted_r2(library.truth, library.predictions[best]))
    assert found[0].nested is not None
    assert found[0].nested < found[-1].nested


def test_no_nested_score_without_dates_to_hold_out(library: Library) -> None:
    one = Library.of_arrays(library.truth, library.predictions, np.zeros(40))
    found = prefixes(one, procedure("uniform", Options()), np.full((6, 5), 1 / 6), None)
    assert [each.nested for each in found] == [None] * 6
