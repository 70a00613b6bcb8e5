"""Every splitter against the promises of its docstring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.folds import Splitter, Stratify, held_out_rows, make_folds, training_rows
from pasture.targets import TOTAL

SPLITTERS: tuple[Splitter, ...] = get_args(Splitter)
GROUPED: tuple[Splitter, ...] = ("stratified_group", "group")
MakeDataset = Callable[..., Dataset]


@pytest.fixture
def paddocks(make_dataset: MakeDataset) -> Dataset:
    """60 images on 12 dates of five images each."""
    generator = np.random.default_rng(0)
    return make_dataset([i % 12 for i in range(60)], generator.gamma(2, 20, 60).tolist())


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_every_image_is_on_exactly_one_side(paddocks: Dataset, splitter: Splitter) -> None:
    folds = make_folds(paddocks, splitter, 4, seed=0)
    for fold in range(1 if splitter == "holdout" else 4):
        both = np.concatenate([training_rows(folds, fold), held_out_rows(folds, fold)])
        assert len(held_out_rows(folds, fold)) > 0
        assert sorted(both) == list(range(60))


@pytest.mark.parametrize("splitter", [s for s in SPLITTERS if s != "holdout"])
@pytest.mark.parametrize("count", [2, 5, 12])
def test_every_image_is_held_out_once(paddocks: Dataset, splitter: Splitter, count: int) -> None:
    folds = make_folds(paddocks, splitter, count, seed=0)
    assert set(folds.tolist()) == set(range(count))
    assert folds.dtype == np.int8


@pytest.mark.parametrize("count", [2, 5])
def test_holdout_is_one_fifth_once_whatever_the_number_of_folds(paddocks: Dataset, count: int) -> None:
    folds = make_folds(paddocks, "holdout", count, seed=0)
    assert sorted(folds) == [-1] * 48 + [0] * 12


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dates=st.lists(st.integers(0, 8), min_size=4, max_size=40).filter(lambda d: len(set(d)) >= 3),
    splitter=st.sampled_from(GROUPED),
    seed=st.integers(0, 99),
)
def test_group_splitters_keep_a_date_together(
    make_dataset: MakeDataset, dates: list[int], splitter: Splitter, seed: int
) -> None:
    dataset = make_dataset(dates, [float(i * 7 % 11) for i in range(len(dates))])
    folds = make_folds(dataset, splitter, 3, seed)
    assert set(folds.tolist()) == {0, 1, 2}
    assert pd.Series(folds).groupby(dataset.dates).nunique().max() == 1


def test_image_splitter_parts_a_date(paddocks: Dataset) -> None:
    folds = make_folds(paddocks, "image", 4, seed=0)
    assert pd.Series(folds).groupby(paddocks.dates).nunique().max() > 1


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_split_follows_from_the_seed(paddocks: Dataset, splitter: Splitter) -> None:
    first = make_folds(paddocks, splitter, 4, seed=7)
    np.testing.assert_array_equal(first, make_folds(paddocks, splitter, 4, seed=7))
    assert any((first != make_folds(paddocks, splitter, 4, seed=seed)).any() for seed in (8, 9))


def test_strata_are_alike_in_every_fold(make_dataset: MakeDataset) -> None:
    # 100 dates of one image each: five strata of 20 can be spread evenly over four folds.
    totals = np.random.default_rng(3).permutation(np.arange(100.0))
    dataset = make_dataset(list(range(100)), totals.tolist())
    strata = pd.qcut(dataset.targets[:, TOTAL], 5, labels=False)
    counts = pd.crosstab(make_folds(dataset, "stratified_group", 4, seed=0), strata)
    assert (counts == 5).all(axis=None)
    assert not (pd.crosstab(make_folds(dataset, "group", 4, seed=0), strata) == 5).all(axis=None)


def test_folds_are_alike_in_states_or_in_patterns_of_zeros(make_dataset: MakeDataset) -> None:
    # 48 dates of one image each. Totals say nothing of the State, nor of which components are 0.
    dataset = make_dataset(list(range(48)), np.random.default_rng(3).permutation(np.arange(1.0, 49.0)).tolist())
    images = dataset.images.copy()
    images["state"] = np.repeat(["Vic", "NSW", "Tas"], 16)
    images["Dry_Clover_g"] = np.tile([0.0, 3.0], 24)
    images["Dry_Dead_g"] = np.tile([0.0, 0.0, 3.0, 3.0], 12)
    dataset = Dataset(dataset.root, images)
    patterns = images["Dry_Clover_g"].astype(str) + images["Dry_Dead_g"].astype(str)
    alike = {"state": images["state"], "zeros": patterns}
    for stratify, kinds in alike.items():
        counts = {
            by: pd.crosstab(make_folds(dataset, "stratified_group", 4, 0, by), kinds).to_numpy().ravel().tolist()
            for by in get_args(Stratify)
        }
        expected = len(dataset) // 4 // kinds.nunique()
        assert [by for by, found in counts.items() if set(found) == {expected}] == [stratify]


@pytest.mark.parametrize("totals", [[5.0] * 12, [0.0] * 11 + [1.0], list(range(12))])
@pytest.mark.parametrize("count", [2, 5, 12])
def test_few_images_are_split_by_fewer_strata(make_dataset: MakeDataset, totals: list[float], count: int) -> None:
    folds = make_folds(make_dataset(list(range(12)), totals), "stratified_group", count, seed=0)
    assert set(folds.tolist()) == set(range(count))


@pytest.mark.parametrize("splitter", GROUPED)
@pytest.mark.parametrize(("dates", "count"), [(1, 2), (3, 4)])
def test_more_folds_than_dates_are_refused(
    make_dataset: MakeDataset, splitter: Splitter, dates: int, count: int
) -> None:
    dataset = make_dataset([i % dates for i in range(20)], list(range(20)))
    with pytest.raises(InputError, match=f"splitter={splitter} needs at least {count} sampling dates.* have {dates};"):
        make_folds(dataset, splitter, count, seed=0)


@pytest.mark.parametrize(("splitter", "images", "needed"), [("image", 4, 5), ("holdout", 1, 2)])
def test_more_folds_than_images_are_refused(
    make_dataset: MakeDataset, splitter: Splitter, images: int, needed: int
) -> None:
    dataset = make_dataset(list(range(images)), list(range(images)))
    with pytest.raises(InputError, match=f"splitter={splitter} needs at least {needed} images.* have {images};"):
        make_folds(dataset, splitter, 5, seed=0)


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_pseudo_images_are_never_held_out_and_change_no_split(paddocks: Dataset, splitter: Splitter) -> None:
    pseudo = paddocks.images.iloc[:20].set_axis([f"P{i}" for i in range(20)])
    images = pd.concat([paddocks.images, pseudo.assign(date=pd.NaT, pseudo_weight=0.5)])
    dataset = Dataset(paddocks.root, images.iloc[np.r_[60:67, :60, 67:80]])
    folds = make_folds(dataset, splitter, 4, seed=0)
    assert (folds[~dataset.measured] == -1).all()
    np.testing.assert_array_equal(folds[dataset.measured], make_folds(paddocks, splitter, 4, seed=0))
    for fold in range(folds.max() + 1):
        assert set(np.flatnonzero(~dataset.measured)) <= set(training_rows(folds, fold))


def test_pseudo_images_are_no_date_of_their_own(make_dataset: MakeDataset) -> None:
    images = make_dataset([i % 4 for i in range(12)], list(range(12))).images
    images = images.assign(pseudo_weight=[np.nan] * 9 + [0.5] * 3)
    with pytest.raises(InputError, match=r"at least 5 sampling dates.* have 4;"):
        make_folds(Dataset(Path("nowhere"), images), "group", 5, seed=0)
