"""Splitting images into folds for cross-validation."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pasture.errors import InputError
from pasture.targets import COMPONENTS, TOTAL, Array

if TYPE_CHECKING:
    from sklearn.model_selection import BaseCrossValidator

    from pasture.dataset import Dataset

Splitter = Literal["stratified_group", "group", "image", "holdout"]
Stratify = Literal["total", "state", "zeros"]
Folds = NDArray[np.int8]

NEVER_HELD_OUT = -1
OUTER = -2
"""Of an image on an outer date, which no model is trained or scored on: see `Dataset.hold_out`."""
QUANTILES = 5
"""Bins of Dry_Total_g whose frequencies folds have alike."""
ONE_MODEL = -10
"""Less k: of a pseudo-labelled image that only the model of fold k is trained on."""


def make_folds(dataset: Dataset, splitter: Splitter, folds: int, seed: int, stratify: Stratify = "total") -> Folds:
    """Fold in which each image is held out. Pseudo-labelled images do not affect the split and are never held out.

    Where pseudo-labels are cross-fitted, the folds are those of their teachers, whatever splitter and seed say, so that
    a model learns from labels of a teacher that has not seen what the model holds out either.

    Args:
        dataset: labelled images.
        splitter: `stratified_group`: dates stay together, and the folds are alike in what `stratify` says; `group`:
            dates stay together; `image`: images at random, so that pictures of one date are in training and test and
            the score is too high; `holdout`: one fifth of the images at random, one fold only.
        folds: number of folds (`holdout` has one, whatever this says).
        seed: shuffles the split.
        stratify: with `stratified_group`: `total`, five quantile bins of Dry_Total_g; `state`, the States; `zeros`,
            which of Green, Dead and Clover are 0.

    Returns:
        (n,) fold of each image; -1 for an image that is never held out (pseudo-labelled, or with `holdout`), -2 for an
        image of an outer date, -10 - k for one with a pseudo-label of teacher k.

    Raises:
        InputError: more folds than there are groups, naming both; not as many folds as teachers.
    """
    if (dataset.teacher_folds >= 0).any():
        return _teachers_folds(dataset, splitter, folds)
    # Imported here: they take long to import, and the command line imports this module at every start.
    import pandas as pd
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, train_test_split

    rows = np.flatnonzero(dataset.scored)
    n = len(rows)
    groups = np.arange(n) if splitter in ("image", "holdout") else pd.factorize(dataset.dates[rows])[0]
    needed = 2 if splitter == "holdout" else folds
    kind = "images" if splitter in ("image", "holdout") else "sampling dates"
    if len(np.unique(groups)) < needed:
        raise InputError(
            f"validation.splitter={splitter} needs at least {needed} {kind}, the data have {len(np.unique(groups))}; "
            "lower validation.folds or choose another splitter"
        )
    result = np.where(dataset.outer, OUTER, NEVER_HELD_OUT).astype(np.int8)
    if splitter == "holdout":
        result[train_test_split(rows, test_size=0.2, random_state=seed)[1]] = 0
        return result

    split = {
        "stratified_group": StratifiedGroupKFold(folds, shuffle=True, random_state=seed),
        "group": GroupKFold(folds, shuffle=True, random_state=seed),
        "image": KFold(folds, shuffle=True, random_state=seed),
    }[splitter]
    for fold, (_, held) in enumerate(_splits(split, _strata(dataset, rows, stratify, folds), groups)):
        result[rows[held]] = fold
    if len(np.unique(result[rows])) < folds:
        raise InputError(
            f"validation.splitter={splitter} with {folds} folds leaves a fold without images; lower validation.folds"
        )
    return result


def _strata(dataset: Dataset, rows: NDArray[np.int64], stratify: Stratify, folds: int) -> Array:
    """(rows,) number of the stratum of each image."""
    import pandas as pd

    if stratify == "state":
        return np.asarray(pd.factorize(dataset.images["state"].fillna("").astype(str).iloc[rows])[0])
    if stratify == "zeros":
        return np.asarray((dataset.targets[rows][:, list(COMPONENTS)] == 0) @ [1, 2, 4])
    # A stratum smaller than the number of folds cannot be spread over them; with few images there are fewer strata.
    count = max(1, min(QUANTILES, len(rows) // folds))
    bins = pd.qcut(dataset.targets[rows, TOTAL], count, labels=False, duplicates="drop")
    return np.asarray(np.nan_to_num(bins))


def repeated_folds(
    dataset: Dataset, splitter: Splitter, folds: int, seed: int, repeats: int, stratify: Stratify = "total"
) -> Folds:
    """Several splits of the same images, each shuffled with another seed.

    Args:
        dataset, splitter, folds: as of `make_folds`.
        seed: of the first split; the others have the next numbers.
        repeats: number of splits.
        stratify: as of `make_folds`.

    Returns:
        (repeats, n) fold of each image in each split.

    Raises:
        InputError: as of `make_folds`; or pseudo-labels are cross-fitted, which fixes the folds.
    """
    if repeats > 1 and (dataset.teacher_folds >= 0).any():
        raise InputError(
            f"{dataset.root}: its pseudo-labels come from the teachers of fixed folds; set validation.repeats=1"
        )
    return np.stack([make_folds(dataset, splitter, folds, seed + repeat, stratify) for repeat in range(repeats)])


def of_model(splits: Folds, model: int) -> tuple[Folds, int]:
    """The split (n,) that a model belongs to, and the fold that it holds out; models are numbered split by split."""
    repeat, fold = divmod(model, int(splits[0].max()) + 1)
    return splits[repeat], fold


def _teachers_folds(dataset: Dataset, splitter: Splitter, folds: int) -> Folds:
    teachers = dataset.teacher_folds
    count = int(teachers[dataset.measured].max()) + 1
    if splitter == "holdout" or folds != count:
        raise InputError(
            f"{dataset.root}: its pseudo-labels come from {count} teachers, one for each fold; set "
            f"validation.folds={count} and a validation.splitter with folds"
        )
    alone = np.where(dataset.measured, teachers, ONE_MODEL - teachers)
    alone = np.where(~dataset.measured & (teachers < 0), NEVER_HELD_OUT, alone)
    return np.where(dataset.outer, OUTER, alone).astype(np.int8)


def training_rows(folds: Folds, fold: int) -> NDArray[np.int64]:
    """Rows that the model of `fold` is trained on: all but those it holds out, those of outer dates, and pseudo-labels
    of other folds' teachers."""
    others = (folds <= ONE_MODEL) & (folds != ONE_MODEL - fold)
    return np.flatnonzero((folds != fold) & (folds != OUTER) & ~others)


def held_out_rows(folds: Folds, fold: int) -> NDArray[np.int64]:
    """Rows that the model of `fold` is scored on."""
    return np.flatnonzero(folds == fold)


def outer_rows(folds: Folds) -> NDArray[np.int64]:
    """Rows of outer dates."""
    return np.flatnonzero(folds == OUTER)


def _splits(splitter: BaseCrossValidator, bins: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    with warnings.catch_warnings():
        # With few images a stratum can be rarer than the number of folds; the split is still valid.
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(np.zeros(len(bins)), bins, groups))
