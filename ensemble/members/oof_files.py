"""The OOF files of some runs, read and checked one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pasture.errors import InputError
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from trainables.images.d4 import tta_elements
from trainables.recipe.sections import TtaName

_METADATA = ("recipe", "recipe_hash", "epoch", "fingerprint")


@dataclass(frozen=True, eq=False)
class OofFile:
    """One OOF file, averaged over the TTA.

    Attributes:
        key: `<run>-<trial>`.
        run: run directory that it lies in.
        trial: name of its trial.
        damage: why it cannot be used; None for a sound file.
        table: the OOF table; one prediction an image, the mean over the elements of the TTA.
        epochs: (E, n, 5) OOF in grams of every epoch, without TTA, rows as in `table`; None where the run has none, or
            where the trial's epoch was not chosen by score.
    """

    key: str
    run: RunFolder
    trial: str
    damage: str | None
    table: OofTable
    epochs: NDArray[np.float32] | None

    @classmethod
    def read(cls, elements: tuple[int, ...], key: str, run: RunFolder, trial: str) -> OofFile:
        """Read a file; the mean is over `elements` of D4, or the identity alone where the file has only that."""
        nothing = OofTable([], np.empty(0, np.int8), np.empty((0, 1, len(TARGETS))), {})
        try:
            table = run.read_oof(trial)
            epochs = run.read_epochs(trial) if _epoch_chosen(table.metadata) else None
            # All elements of all files are large, and only their mean is needed.
            averaged = elements if max(elements) < table.predictions.shape[1] else (0,)
            table = dataclasses.replace(table, predictions=table.mean(averaged)[:, None])
        except InputError as error:
            return cls(key, run, trial, str(error), nothing, None)
        damage = None
        if absent := [name for name in _METADATA if name not in table.metadata]:
            damage = f"the metadata of its OOF lack {', '.join(absent)}"
        elif epochs is not None:
            expected = (len(table.image_ids), len(TARGETS))
            if epochs.shape[1:] != expected or not 0 <= table.metadata["epoch"] < len(epochs):
                damage = f"its epochs {epochs.shape} do not hold epoch {table.metadata['epoch']} of {expected} OOF rows"
            # A sweep of 2,000 trials has some 10^8 numbers here, and they were stored as float32.
            epochs = epochs.astype(np.float32)
        return cls(key, run, trial, damage, table, epochs)

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the OOF table."""
        return self.table.metadata

    @property
    def external(self) -> bool:
        """Whether another tool made the predictions, so that there are no models."""
        return bool(self.metadata.get("external"))

    @property
    def epoch_chosen(self) -> bool:
        """Whether the trial's epoch was chosen by its OOF score, or may have been."""
        return _epoch_chosen(self.metadata)

    @property
    def curve(self) -> tuple[float, ...]:
        """R2 after every epoch up to the trial's own."""
        reports = self.metadata.get("curve", [])[: self.metadata["epoch"] + 1]
        return tuple(float(report["epoch_score"]) for report in reports)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each image that was held out."""
        return {i: row for row, i in enumerate(self.table.image_ids) if self.table.folds[row] >= 0}

    @cached_property
    def images(self) -> frozenset[str]:
        """Ids of the images that were held out."""
        return frozenset(self.rows)

    def splits_a_date(self, dates: dict[str, Any]) -> bool:
        """Whether two images of one date lie in different folds, or one of them only ever in the training set."""
        folds = {i: int(self.table.folds[row]) for i, row in self.rows.items()}
        pairs = {(date, folds.get(i, -1)) for i, date in dates.items()}
        return len(pairs) > len(set(dates.values()))


def read_oof_files(runs: Sequence[RunFolder], tta: TtaName) -> list[OofFile]:
    """Every OOF file of some runs, in the order of their keys.

    Raises:
        InputError: two trials of one key.
    """
    found = _trials(runs)
    if not found:
        return []
    with ThreadPoolExecutor() as threads:
        return list(threads.map(partial(OofFile.read, tta_elements(tta)), *zip(*found, strict=True)))


def read_common_truth(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Truth of all runs, sorted by image id.

    Raises:
        InputError: a run directory does not exist or holds no run, or runs differ in images, dates or targets.
    """
    for run in runs:
        if not run.folder.exists():
            raise InputError(
                f"{run}: no such run directory; give a folder that `forage sweep` or `forage import` wrote"
            )
        if not run.folder.exists("truth.parquet"):
            raise InputError(
                f"{run}: not a run directory (no truth.parquet); give a folder that `forage sweep` or `forage import` "
                "wrote"
            )
    first, *others = [run.read_truth().sort_index() for run in runs]
    columns = ["date", *TARGETS]
    for run, other in zip(runs[1:], others, strict=True):
        if not other[columns].equals(first[columns]):
            raise InputError(
                f"{runs[0]} and {run} have different images, dates or targets; blend only runs made from the same data"
            )
    return first


def _trials(runs: Sequence[RunFolder]) -> list[tuple[str, RunFolder, str]]:
    """(key, run, trial) of every OOF file, in the order of the keys."""
    found: dict[str, tuple[str, RunFolder, str]] = {}
    for run in runs:
        for trial in (name.removesuffix(".parquet") for name in run.oof.names(".parquet")):
            key = f"{run.name}-{trial}"
            if key in found:
                raise InputError(f"{found[key][1]} and {run} both have a {key}; give each run once, or rename a folder")
            found[key] = (key, run, trial)
    return [found[key] for key in sorted(found)]


def _epoch_chosen(metadata: dict[str, Any]) -> bool:
    """Recipes with `schedule.choose` last or average fix the epoch before training."""
    recipe = metadata.get("recipe") or {}
    return bool(recipe.get("schedule", {}).get("choose", "best") == "best")
