"""The script that says how hard a data folder is, on features whose relation to the targets is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.difficulty import held_out_predictions, row
from pasture.dataset import Dataset
from pasture.metric import baseline_r2, weighted_r2
from pasture.targets import TARGETS, from_components

pytestmark = pytest.mark.heavy

RANDOM = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(20), 5)
TRUTH = from_components(RANDOM.gamma(2.0, 10.0, (100, 3)))


def test_features_that_hold_the_targets_predict_them() -> None:
    features = np.concatenate([TRUTH + RANDOM.normal(0, 0.1, TRUTH.shape)] * 20, axis=1)
    assert weighted_r2(TRUTH, held_out_predictions(features, TRUTH, GROUPS, 0)) > 0.95


def test_features_that_only_name_the_group_predict_nothing_where_groups_are_held_out() -> None:
    level = from_components(RANDOM.gamma(2.0, 10.0, (20, 3)))[GROUPS]
    features = RANDOM.normal(size=(20, 60))[GROUPS]
    assert weighted_r2(level, held_out_predictions(features, level, np.arange(100), 0)) > 0.9
    # Each target's mean alone scores the baseline.
    assert weighted_r2(level, held_out_predictions(features, level, GROUPS, 0)) < baseline_r2(level) + 0.05


def test_a_row_of_the_table() -> None:
    images = pd.DataFrame(TRUTH, columns=list(TARGETS)).assign(
        date=pd.Timestamp("2015-01-01") + pd.to_timedelta(GROUPS, unit="D")
    )
    text = row("data", Dataset(Path("data"), images), RANDOM.normal(size=(100, 8)), 1).split()
    assert text[:3] == ["data", "100", "20"]
