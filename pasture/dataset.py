"""The photographs of a data folder in the competition's layout: one row an image, checked before training."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import pandas as pd

from pasture.data_table import check_rows, data_root, one_row_per_image, read_csv
from pasture.errors import InputError
from pasture.findings import Findings
from pasture.metric import baseline_r2
from pasture.targets import TARGETS, Array, balance_gap

BALANCE_TOLERANCE_G: Final = 0.01
MAX_TARGET_G: Final = 10_000.0
"""Largest dry weight that is believed, in grams: 10 kg from a quadrat of 70 cm x 30 cm would be 476 t a hectare."""

_METADATA: Final = {
    "Sampling_Date": "date",
    "State": "state",
    "Species": "species",
    "Pre_GSHH_NDVI": "ndvi",
    "Height_Ave_cm": "height_cm",
}
PSEUDO_WEIGHT: Final = "Pseudo_Weight"
"""Optional column of train.csv: how much a pseudo-label counts, a number in (0, 1]; empty in measured rows."""
TEACHER_FOLD: Final = "Teacher_Fold"
"""Optional column of train.csv, for cross-fitted pseudo-labels: the number of a teacher. In a pseudo-labelled row, the
teacher that made the label; in a measured row, the one that has not seen it."""
MOST_TEACHERS: Final = 50

TRAIN_COLUMNS: Final = ("sample_id", "image_path", *_METADATA, "target_name", "target")
TEST_COLUMNS: Final = ("sample_id", "image_path", "target_name")


@dataclass(frozen=True)
class Dataset:
    """Photographs, one row an image.

    Attributes:
        root: the data folder.
        images: index `image_id`; `image_path`, relative to `root`; for labelled data also date, state, species,
            ndvi, height_cm and the five target columns in grams. Where targets are pseudo-labels, `pseudo_weight` is a
            number in (0, 1], and the metadata may be missing; NaN or no such column where they were measured. Where
            pseudo-labels are cross-fitted, `teacher_fold` is the number of a teacher: see `TEACHER_FOLD`.
        outer_dates: dates whose images are held out of everything: see `hold_out`.
    """

    root: Path
    images: pd.DataFrame
    outer_dates: frozenset[str] = field(default=frozenset(), kw_only=True)

    @property
    def ids(self) -> list[str]:
        """Image ids, in the order of every array made from this dataset."""
        return [str(i) for i in self.images.index]

    @property
    def paths(self) -> list[Path]:
        """Absolute path of each photograph."""
        return [self.root / p for p in self.images["image_path"]]

    @property
    def targets(self) -> Array:
        """(n, 5) dry weights in grams."""
        return self.images[list(TARGETS)].to_numpy(dtype=np.float64)

    @property
    def dates(self) -> np.ndarray:
        """(n,) sampling date of each image as a string: the groups of every honest split. Empty where unknown."""
        return np.asarray(self.images["date"].dt.strftime("%Y-%m-%d").fillna(""), dtype=str)

    @property
    def measured(self) -> np.ndarray:
        """(n,) False for an image with pseudo-labels: models are trained on it and never scored on it."""
        return np.asarray(self._pseudo_weight.isna())

    @property
    def outer(self) -> np.ndarray:
        """(n,) True for an image of an outer date: models are neither trained nor scored on it."""
        if not self.outer_dates:
            return np.zeros(len(self), dtype=bool)
        return np.isin(self.dates, sorted(self.outer_dates))

    @property
    def scored(self) -> np.ndarray:
        """(n,) True for an image that scores are computed on: measured, and not of an outer date."""
        return np.asarray(self.measured & ~self.outer)

    @property
    def pseudo_weights(self) -> Array:
        """(n,) how much the targets of each image count in training; 1 for a measured image."""
        return self._pseudo_weight.fillna(1.0).to_numpy(dtype=np.float64)

    @property
    def _pseudo_weight(self) -> pd.Series:
        return self.images.get("pseudo_weight", pd.Series(np.nan, index=self.images.index))

    @property
    def teacher_folds(self) -> np.ndarray:
        """(n,) number of the teacher that made the label of an image, or that has not seen a measured one; -1 where
        pseudo-labels are not cross-fitted."""
        column = self.images.get("teacher_fold", pd.Series(np.nan, index=self.images.index))
        return np.asarray(column.fillna(-1).astype(int))

    @property
    def leaking(self) -> int:
        """Number of pseudo-labelled images whose labels come from models that have seen the labels of all folds."""
        return int((~self.measured & (self.teacher_folds < 0)).sum())

    def for_one_model(self) -> Self:
        """The same images for one model trained on all of them: the labels of all teachers of a photograph together
        weigh what one of them does."""
        teachers = int(self.teacher_folds.max(initial=-1)) + 1
        if not teachers:
            return self
        shared = ~self.measured & (self.teacher_folds >= 0)
        weights = self.images["pseudo_weight"].where(~shared, self.images["pseudo_weight"] / teachers)
        return replace(self, images=self.images.assign(pseudo_weight=weights))

    def __len__(self) -> int:
        return len(self.images)

    def hold_out(self, dates: Collection[str]) -> Self:
        """The same images with some dates held out of everything: training, folds, OOF and every score.

        Outer cross-validation scores a whole search on these dates afterwards.

        Args:
            dates: such as 2015-09-04. They replace those held out before.

        Raises:
            InputError: the data have no such date, or no measured image of any other date.
        """
        if absent := sorted(set(dates) - (set(self.dates) - {""})):
            raise InputError(f"{self.root}: no image of the outer date {absent[0]!r}; expected dates as in 2015-09-04")
        result = replace(self, outer_dates=frozenset(dates))
        if not result.scored.any():
            raise InputError(f"{self.root}: the outer dates leave no measured image to train on; hold out fewer dates")
        return result

    def baseline(self) -> float:
        """Score of predicting each target's mean on the images that are scored."""
        return baseline_r2(self.targets[self.scored])


def read_train(root: str | os.PathLike[str], name: str = "train.csv") -> Dataset:
    """Read and check `train.csv` of a data folder. Pictures are not opened: see `pasture.verification.verify`.

    Rows are joined by image id, never by their order. A row that breaks the mass balance by more than
    0.01 g is reported as a warning. With a column `Pseudo_Weight`, rows that have one are pseudo-labelled.

    Raises:
        InputError: naming file, row and reason; a `DataError` with all findings where rows are wrong.
        StorageError: the disk fails.
    """
    root, findings = data_root(root, name), Findings()
    dataset = parse_train(root, name, read_csv(root / name, TRAIN_COLUMNS), findings)
    findings.raise_if_any()
    warn_unbalanced(root / name, dataset)
    return dataset


def read_test(root: str | os.PathLike[str]) -> Dataset:
    """Read and check `test.csv` of a data folder: image ids and paths, no labels.

    Raises:
        InputError: naming file, row and reason; a `DataError` with all findings where rows are wrong.
        StorageError: the disk fails.
    """
    root, findings = data_root(root, "test.csv"), Findings()
    dataset = parse_test(root, read_csv(root / "test.csv", TEST_COLUMNS), findings)
    findings.raise_if_any()
    return dataset


def parse_train(root: Path, name: str, table: pd.DataFrame, findings: Findings) -> Dataset:
    """Dataset of the rows of train.csv; what is wrong with them is added to `findings`."""
    source = root / name
    table = table.assign(**{name: "" for name in (PSEUDO_WEIGHT, TEACHER_FOLD) if name not in table.columns})
    table = check_rows(source, table, findings)
    if table.empty:
        return Dataset(root, pd.DataFrame(columns=["image_path"]))
    table, unclear = _numbers(source, table, findings)
    columns = _METADATA | {PSEUDO_WEIGHT: "pseudo_weight", TEACHER_FOLD: "teacher_fold"}
    # Images with a value that could not be read are left out of the comparison: that value is reported already.
    images = one_row_per_image(source, table[~table["image_id"].isin(unclear)], [*columns], findings)
    images = images.rename(columns=columns)
    targets = table.pivot(index="image_id", columns="target_name", values="target").reindex(columns=list(TARGETS))
    present = table.pivot(index="image_id", columns="target_name", values="sample_id").reindex(columns=list(TARGETS))
    for image_id, row in present[present.isna().any(axis=1)].iterrows():
        absent = row.index[row.isna()]
        findings.add(
            f"{source}: image {image_id} has no row for {', '.join(absent)}; every image needs all five targets"
        )
    dataset = Dataset(root, images.join(targets))
    if not findings.lines:
        _check_measured(source, dataset, findings)
    return dataset


def parse_test(root: Path, table: pd.DataFrame, findings: Findings) -> Dataset:
    """Dataset of the rows of test.csv; what is wrong with them is added to `findings`."""
    source = root / "test.csv"
    return Dataset(root, one_row_per_image(source, check_rows(source, table, findings), [], findings))


def warn_unbalanced(source: Path, dataset: Dataset) -> None:
    """Warn about images whose targets break the mass balance."""
    gap = balance_gap(dataset.targets)
    off = np.flatnonzero(gap > BALANCE_TOLERANCE_G)
    if len(off):
        worst = dataset.ids[int(gap.argmax())]
        warnings.warn(
            f"{source}: {len(off)} image(s) break the mass balance by more than {BALANCE_TOLERANCE_G} g "
            f"(worst: {worst}, by {gap.max():.2f} g); they are kept as they are",
            stacklevel=3,
        )


def _numbers(source: Path, table: pd.DataFrame, findings: Findings) -> tuple[pd.DataFrame, set[str]]:
    """The rows of train.csv with numbers and dates for text; ids of the images with values that are neither."""
    unclear: set[str] = set()

    def refuse(bad: pd.Series, message: str) -> None:
        findings.add_rows(source, table, bad, message)
        unclear.update(table.loc[bad, "image_id"])

    pseudo = table[PSEUDO_WEIGHT] != ""
    values = pd.to_numeric(table["target"], errors="coerce").astype(float)
    refuse(~values.map(np.isfinite), "target {target!r} is not a finite number of grams")
    refuse(values < 0, "target {target!r} is negative; a dry weight is at least 0 g")
    refuse(
        values.between(MAX_TARGET_G, np.inf, inclusive="neither"),
        f"target {{target!r}} is above {MAX_TARGET_G:.0f} g; expected the grams from one quadrat",
    )
    # Without a year pandas would fill in today's: "10:00" is no date.
    dated = table["Sampling_Date"].where(table["Sampling_Date"].str.contains(r"\d{4}"))
    dates = pd.to_datetime(dated, errors="coerce", format="mixed")
    undated = dates.isna() & ~(pseudo & (table["Sampling_Date"] == ""))
    refuse(undated, "Sampling_Date {Sampling_Date!r} is not a date such as 2015/9/4")
    parsed = table.assign(target=values, Sampling_Date=dates)
    for column, low, high, allowed in (
        ("Pre_GSHH_NDVI", -1.0, 1.0, "in [-1, 1]"),
        ("Height_Ave_cm", 0.0, np.inf, "at least 0 cm"),
        (PSEUDO_WEIGHT, np.nextafter(0.0, 1.0), 1.0, "in (0, 1]"),
        (TEACHER_FOLD, 0, MOST_TEACHERS - 1, f"in 0 to {MOST_TEACHERS - 1}"),
    ):
        numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
        given = table[column] != ""
        refuse(given & ~numbers.map(np.isfinite), f"{column} {{{column}!r}} is not a finite number")
        outside = given & numbers.map(np.isfinite) & ~numbers.between(low, high)
        refuse(outside, f"{column} {{{column}!r}} is not {allowed}")
        parsed[column] = numbers
    return parsed, unclear


def _check_measured(source: Path, dataset: Dataset, findings: Findings) -> None:
    measured = dataset.targets[dataset.measured]
    teachers = dataset.teacher_folds
    if (teachers >= 0).any() and (absent := np.flatnonzero(dataset.measured & (teachers < 0))).size:
        findings.add(
            f"{source}: image {dataset.ids[absent[0]]} has no {TEACHER_FOLD}, but others have: whether a pseudo-label "
            "has seen it is not known; give all measured images theirs, or remove the column"
        )
    if not len(measured):
        findings.add(f"{source}: every image is pseudo-labelled; measured ones are needed to score models on")
    elif (measured == measured[0]).all():
        findings.add(
            f"{source}: all {len(measured)} measured image(s) have the same five targets, so that R2 is not defined; "
            "expected images with different weights"
        )
