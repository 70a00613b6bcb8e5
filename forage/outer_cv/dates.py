"""Groups of dates, each held out of whole sweeps in turn."""

from __future__ import annotations

import numpy as np

from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.folds import make_folds


def deal_dates(dataset: Dataset, splits: int, seed: int) -> list[tuple[str, ...]]:
    """The dates in groups with similar numbers of images and similar distributions of Dry_Total_g.

    Every date lies in one group. Another seed deals them into other groups, so that a mean over seeds depends less on
    which dates are held out together.

    Args:
        dataset: labelled images.
        splits: number of groups.
        seed: of the deal.

    Raises:
        InputError: fewer dates than groups.
    """
    dates = set(dataset.dates[dataset.scored])
    if len(dates) < splits:
        raise InputError(f"--splits {splits}: the data have {len(dates)} sampling dates; use at most that many splits")
    folds = make_folds(dataset, "stratified_group", splits, seed)
    groups = [tuple(str(date) for date in sorted(set(dataset.dates[folds == group]))) for group in range(splits)]
    assert set(np.concatenate(groups)) == dates
    return groups
