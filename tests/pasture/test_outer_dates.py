"""Dates that are held out of everything: folds, truth, baseline and the fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from pasture.dataset import Dataset, read_train
from pasture.errors import InputError
from pasture.folds import OUTER, Splitter, make_folds, outer_rows, training_rows
from pasture.metric import baseline_r2
from pasture.run_folder import RunFolder
from pasture.verification import verify, with_fingerprint

HELD = ("2015-01-02", "2015-01-05")


@pytest.fixture
def paddocks(make_dataset: Callable[..., Dataset]) -> Dataset:
    """60 images on 12 dates of five images each, 2015-01-01 to 2015-01-12."""
    return make_dataset([i % 12 for i in range(60)], np.random.default_rng(0).gamma(2, 20, 60).tolist())


@pytest.mark.parametrize("splitter", get_args(Splitter))
def test_outer_rows_are_in_no_fold_and_in_no_training_set(paddocks: Dataset, splitter: Splitter) -> None:
    folds = make_folds(paddocks.hold_out(HELD), splitter, 4, seed=0)
    held = np.isin(paddocks.dates, HELD)
    assert (folds[held] == OUTER).all()
    assert (folds[~held] != OUTER).all()
    assert outer_rows(folds).tolist() == np.flatnonzero(held).tolist()
    for fold in range(folds.max() + 1):
        assert not held[training_rows(folds, fold)].any()


@pytest.mark.parametrize("splitter", get_args(Splitter))
def test_the_other_images_are_split_as_if_the_outer_ones_did_not_exist(paddocks: Dataset, splitter: Splitter) -> None:
    held = np.isin(paddocks.dates, HELD)
    alone = Dataset(paddocks.root, paddocks.images[~held])
    folds = make_folds(paddocks.hold_out(HELD), splitter, 4, seed=0)
    assert folds[~held].tolist() == make_folds(alone, splitter, 4, seed=0).tolist()


def test_a_pseudo_label_of_an_outer_date_is_not_trained_on(paddocks: Dataset) -> None:
    weights = pd.Series(np.nan, index=paddocks.images.index)
    weights.iloc[[1, 2]] = 0.5  # of 2015-01-02 and 2015-01-03
    dataset = Dataset(paddocks.root, paddocks.images.assign(pseudo_weight=weights)).hold_out(HELD)
    assert make_folds(dataset, "group", 4, seed=0)[[1, 2]].tolist() == [OUTER, -1]
    assert dataset.scored.sum() == 60 - 10 - 1


def test_baseline_and_truth_are_of_the_other_images(paddocks: Dataset, tmp_path: Path) -> None:
    held = np.isin(paddocks.dates, HELD)
    dataset = paddocks.hold_out(HELD)
    assert dataset.baseline() == baseline_r2(paddocks.targets[~held])
    run = RunFolder(tmp_path / "run")
    run.write_truth(dataset)
    assert run.read_truth().index.tolist() == [i for i, out in zip(paddocks.ids, held, strict=True) if not out]


def test_the_fingerprint_tells_outer_dates_apart_and_the_content_does_not(data: Path) -> None:
    dataset = verify(read_train(data))
    first, second = sorted(set(dataset.dates))
    splits = [dataset, dataset.hold_out([first]), dataset.hold_out([second])]
    assert len({split.fingerprint for split in splits}) == 3
    assert {split.content for split in splits} == {dataset.fingerprint}
    again = with_fingerprint(read_train(data), dataset.content).hold_out([first])
    assert again.fingerprint == splits[1].fingerprint == verify(read_train(data).hold_out([first])).fingerprint


def test_the_order_and_repetition_of_outer_dates_do_not_count(paddocks: Dataset) -> None:
    one = with_fingerprint(paddocks, "0" * 64).hold_out(HELD)
    other = with_fingerprint(paddocks, "0" * 64).hold_out([*reversed(HELD), HELD[0]])
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("dates", [["2015-02-30"], [""], ["2015/01/02"]])
def test_a_date_that_the_data_do_not_have_is_refused(paddocks: Dataset, dates: list[str]) -> None:
    with pytest.raises(InputError, match=f"no image of the outer date '{dates[0]}'; expected dates as in 2015-09-04"):
        paddocks.hold_out(dates)


def test_to_hold_out_all_dates_is_refused(paddocks: Dataset) -> None:
    with pytest.raises(InputError, match="leave no measured image to train on; hold out fewer dates"):
        paddocks.hold_out(sorted(set(paddocks.dates)))
