"""Dates in balanced groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forage.outer_cv.dates import deal_dates
from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.targets import TARGETS, TOTAL, from_components


@pytest.fixture
def paddocks() -> Dataset:
    """120 images on 20 dates of 2 to 10 images each."""
    generator = np.random.default_rng(0)
    dates = np.repeat(np.arange(20), np.tile([2, 4, 8, 10], 5))
    components = np.stack([generator.gamma(2, 20, len(dates)), *np.zeros((2, len(dates)))], axis=1)
    images = pd.DataFrame(from_components(components), columns=list(TARGETS))
    images.insert(0, "date", pd.Timestamp("2015-01-01") + pd.to_timedelta(dates, unit="D"))
    images.index = pd.Index([f"ID{i:04d}" for i in range(len(dates))], name="image_id")
    return Dataset(Path("nowhere"), images)


@pytest.mark.parametrize("splits", [2, 4, 7])
def test_every_date_lies_in_one_group(paddocks: Dataset, splits: int) -> None:
    groups = deal_dates(paddocks, splits, seed=0)
    assert len(groups) == splits
    assert sorted(date for group in groups for date in group) == sorted(set(paddocks.dates))


def test_groups_are_balanced(paddocks: Dataset) -> None:
    for seed in range(5):
        groups = deal_dates(paddocks, 4, seed)
        counts = [np.isin(paddocks.dates, group).sum() for group in groups]
        means = [paddocks.targets[np.isin(paddocks.dates, group), TOTAL].mean() for group in groups]
        assert max(counts) <= 1.5 * min(counts), counts
        assert max(means) <= 1.5 * min(means), means


def test_another_seed_deals_other_groups(paddocks: Dataset) -> None:
    assert deal_dates(paddocks, 4, 0) == deal_dates(paddocks, 4, 0)
    assert set(deal_dates(paddocks, 4, 0)) != set(deal_dates(paddocks, 4, 1))


def test_more_groups_than_dates_are_refused(paddocks: Dataset) -> None:
    with pytest.raises(InputError, match="--splits 21: the data have 20 sampling dates; use at most that many splits"):
        deal_dates(paddocks, 21, 0)
