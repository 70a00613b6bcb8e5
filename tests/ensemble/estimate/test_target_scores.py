"""Scores of each target on its own, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.estimate.target_scores import target_scores

TRUTH = np.array([[0.0, 1.0, 2.0, 2.0, 3.0], [4.0, 1.0, 2.0, 6.0, 7.0]])


def test_score_error_and_bias_of_a_target() -> None:
    fitted = TRUTH + np.array([[1.0, 0, 0, 0, 0], [3.0, 0, 0, 0, 0]])
    scores = target_scores(TRUTH, fitted, np.stack([TRUTH, TRUTH - 2]))["Dry_Green_g"]
    assert scores == pytest.approx(
        {
            "r2": 1 - 10 / 8,
            "rmse": 5**0.5,
            "bias": 2,
            "sd": 2,
            "nested_r2": (1 + 0) / 2,
            "nested_rmse": (0 + 2) / 2,
            "nested_bias": -1,
        }
    )


def test_a_constant_target_has_no_r2_and_a_blend_of_one_date_no_nested_scores() -> None:
    scores = target_scores(TRUTH, TRUTH + 1, None)["Dry_Dead_g"]
    assert scores["r2"] is None
    assert scores["nested_rmse"] is None
    assert (scores["rmse"], scores["sd"]) == (1.0, 0.0)
