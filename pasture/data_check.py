"""Checking a whole data folder: every finding is collected, instead of stopping at the first."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pasture.data_table import data_root, read_csv, read_sample_submission, stays_inside
from pasture.dataset import TEST_COLUMNS, TRAIN_COLUMNS, Dataset, parse_test, parse_train, warn_unbalanced
from pasture.errors import InputError
from pasture.findings import Findings
from pasture.pictures import PictureFacts
from pasture.verification import (
    VerifiedDataset,
    check_pictures,
    fingerprint_of,
    identical_pictures,
    with_fingerprint,
)


@dataclass(frozen=True)
class CheckedFolder:
    """A data folder without errors.

    Attributes:
        train: the labelled photographs.
        test: those of test.csv; None without that file.
    """

    train: VerifiedDataset
    test: VerifiedDataset | None


def check_folder(location: str | os.PathLike[str]) -> CheckedFolder:
    """Check train.csv, test.csv, sample_submission.csv and every picture.

    Warns about what can be meant but seldom is: masses out of balance, identical pictures under two ids (between train
    and test too) and odd aspect ratios.

    Raises:
        InputError: there is no such folder.
        DataError: with all findings.
        StorageError: the disk fails.
    """
    root, findings = data_root(location, "train.csv"), Findings()
    train = _check_table(
        root, "train.csv", TRAIN_COLUMNS, findings, lambda table, f: parse_train(root, "train.csv", table, f)
    )
    test = None
    if (root / "test.csv").exists():
        test = _check_table(root, "test.csv", TEST_COLUMNS, findings, lambda table, f: parse_test(root, table, f))
        try:
            if test.sound:
                read_sample_submission(root, test.dataset.ids)
        except InputError as error:
            findings.add(str(error))
    findings.raise_if_any()
    warn_unbalanced(root / "train.csv", train.dataset)
    if test is not None:
        _warn_shared(root, train, test)
    return CheckedFolder(train.verified(), None if test is None else test.verified())


@dataclass(frozen=True)
class _Part:
    dataset: Dataset
    facts: list[PictureFacts]
    sound: bool

    def verified(self) -> VerifiedDataset:
        return with_fingerprint(self.dataset, fingerprint_of(self.dataset, [fact.digest for fact in self.facts]))


def _check_table(
    root: Path,
    name: str,
    columns: tuple[str, ...],
    findings: Findings,
    make: Callable[[pd.DataFrame, Findings], Dataset],
) -> _Part:
    """Check a table and the pictures that it names; the pictures even if other values of the table are wrong."""
    own = Findings()
    dataset = Dataset(root, pd.DataFrame({"image_path": []}))
    try:
        table = read_csv(root / name, columns)
        dataset = make(table, own)
        if own.lines:
            paths = table["image_path"].drop_duplicates()
            dataset = Dataset(root, pd.DataFrame({"image_path": paths[paths.map(stays_inside)]}))
    except InputError as error:
        own.add(str(error))
    facts = check_pictures(dataset, own)
    findings.lines += own.lines
    return _Part(dataset, facts, not own.lines)


def _warn_shared(root: Path, train: _Part, test: _Part) -> None:
    ids = [*(f"{i} of train.csv" for i in train.dataset.ids), *(f"{i} of test.csv" for i in test.dataset.ids)]
    pairs = [
        (one, other)
        for one, other in identical_pictures([*train.facts, *test.facts], ids)
        if one.endswith("train.csv") and other.endswith("test.csv")
    ]
    if pairs:
        warnings.warn(
            f"{root}: {len(pairs)} test picture(s) are also training pictures, such as {pairs[0][1]} and {pairs[0][0]}"
            "; their predictions say nothing about new photographs",
            stacklevel=3,
        )
