"""The teacher that sees metadata: what it learns, and that it learns from the training fold alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pasture.targets import GDM, TARGETS, TOTAL, balance_gap
from pasture.verification import VerifiedDataset
from trainables.training.teacher import teach

ROWS = np.arange(0, 24, 2)
HELD = np.arange(1, 24, 2)


def test_it_learns_what_the_metadata_say(dataset: VerifiedDataset) -> None:
    taught = teach(dataset.images, dataset.targets, ROWS, 0).numpy()
    truth = dataset.targets[ROWS]
    assert taught.shape == (12, 5)
    assert taught.min() >= 0
    residual = ((taught - truth)[:, TOTAL] ** 2).mean()
    assert residual < 0.2 * truth[:, TOTAL].var()
    assert not np.allclose(taught, truth)


@pytest.mark.heavy
def test_the_same_seed_says_the_same_whatever_was_drawn_before(dataset: VerifiedDataset) -> None:
    first = teach(dataset.images, dataset.targets, ROWS, 7)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(teach(dataset.images, dataset.targets, ROWS, 7), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(teach(dataset.images, dataset.targets, ROWS, 8), first)


@pytest.mark.heavy
@pytest.mark.parametrize("column", ["targets", "ndvi", "height_cm", "species", "date"])
def test_rows_that_are_not_its_own_change_nothing(dataset: VerifiedDataset, column: str) -> None:
    honest = teach(dataset.images, dataset.targets, ROWS, 0)
    images, grams = dataset.images.copy(), dataset.targets.copy()
    held = images.index[HELD]
    if column == "targets":
        grams[HELD] = np.nan
        images.loc[held, list(TARGETS)] = np.nan
    else:
        nonsense = {"ndvi": 1e6, "height_cm": np.nan, "species": "Triffid_Kudzu", "date": np.datetime64("NaT")}
        images.loc[held, column] = nonsense[column]
    assert torch.equal(teach(images, grams, ROWS, 0), honest)


@pytest.mark.heavy
@pytest.mark.parametrize("column", ["ndvi", "height_cm", "species", "date"])
def test_it_looks_at_every_column(dataset: VerifiedDataset, column: str) -> None:
    images = dataset.images.copy()
    images.loc[images.index[ROWS], column] = images[column].to_numpy()[ROWS[::-1]]
    assert not torch.equal(teach(images, dataset.targets, ROWS, 0), teach(dataset.images, dataset.targets, ROWS, 0))


@pytest.mark.heavy
def test_it_says_something_where_nothing_was_measured(dataset: VerifiedDataset) -> None:
    images = dataset.images.copy()
    images.loc[images.index[ROWS[:4]], ["ndvi", "height_cm"]] = np.nan
    assert teach(images, dataset.targets, ROWS, 0).isfinite().all()
    images[["ndvi", "height_cm"]] = np.nan
    assert teach(images, dataset.targets, ROWS, 0).isfinite().all()


def test_dead_is_total_without_gdm(dataset: VerifiedDataset) -> None:
    taught = teach(dataset.images, dataset.targets, ROWS, 0).double().numpy()
    assert taught[:, 1] == pytest.approx(np.maximum(taught[:, TOTAL] - taught[:, GDM], 0), abs=1e-4)
    assert balance_gap(taught).max() < 0.5 * taught[:, TOTAL].max()  # four targets are learnt: it need not balance
