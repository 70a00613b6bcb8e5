"""Gain in score that a trial adds to the blend of the others, which a search with `--objective blend` maximises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pasture.errors import InputError
from pasture.metric import total_ss
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, WEIGHTS, Array
from search_spaces.space import Space

SIZE: Final = 8
"""Number of trials in the blend that another trial joins."""

GROUPS: Final = 5
"""Number of groups of dates."""


def check_comparable(space: Space) -> None:
    """Check that all trials of a space are scored on the same images, without which they cannot be blended.

    Raises:
        InputError: some are scored on a part of the images only.
    """
    validations = [recipe.validation for recipe in space.variants("validation")]
    if len({v.seed if v.splitter == "holdout" else None for v in validations}) > 1:
        raise InputError(
            "--objective blend: trials of this space are scored on different images; use one `validation.splitter` for "
            "all, and one `validation.seed` with `holdout`"
        )


class BlendGain:
    """Gain of R2 of a plain mean of trials when another trial joins it.

    For each of 5 groups of dates, the blend is the mean of the 8 other trials whose loss on the *other* dates is lowest
    (all others, if there are fewer). It is scored on the dates of the group with and without the trial as one more
    member; the gain is the difference in R2, summed over the groups. A trial on a backbone that the blend lacks gains
    more than another one with the same score whose errors the blend has already, so that the search does not settle
    on one backbone.

    All gains are relative to the same trials and change whenever another trial is complete. They depend on the OOF
    files alone, so a resumed search computes the same.

    Args:
        run: the run directory; OOF tables of trials whose weights were not kept count too.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.residuals: dict[str, Array] = {}
        self.image_ids: list[str] = []

    def __call__(self, names: Sequence[str]) -> dict[str, float]:
        """Gains of some complete trials, each relative to the others, by name.

        Trials without an OOF file are left out. A trial alone has a gain of 0.

        Raises:
            InputError: a damaged file, or OOF tables of different images.
        """
        for name in names:
            if name not in self.residuals and (table := self._read(name)):
                self._add(name, table)
        known = [name for name in names if name in self.residuals]
        if len(known) < 2:
            return dict.fromkeys(known, 0.0)
        gains = falls_in_loss(np.stack([self.residuals[name] for name in known]), self.groups)
        return dict(zip(known, (gains / self.total).tolist(), strict=True))

    def _read(self, name: str) -> OofTable | None:
        for folder in (self.run.oof, self.run.retired):
            if folder.exists(f"{name}.parquet"):
                return OofTable.read(folder, f"{name}.parquet")
        return None

    def _add(self, name: str, table: OofTable) -> None:
        if not self.image_ids:
            images = self.run.read_truth().loc[table.image_ids]
            self.image_ids, self.truth = table.image_ids, images[list(TARGETS)].to_numpy()
            self.groups = np.unique(images["date"].to_numpy(), return_inverse=True)[1] % GROUPS
            self.total = total_ss(self.truth)
        if table.image_ids != self.image_ids:
            raise InputError(f"{self.run}: OOF of {name} is of other images than that of the trials before it")
        elements = tuple(range(table.predictions.shape[1]))
        self.residuals[name] = np.sqrt(WEIGHTS) * (table.mean(elements) - self.truth)


def falls_in_loss(residuals: Array, groups: NDArray[np.intp]) -> Array:
    """Fall of the blend's residual sum of squares when each trial joins it; see `BlendGain`.

    Args:
        residuals: (m, n, 5) residuals of m > 1 trials, each times the root of its target's weight.
        groups: (n,) group of each image's date.

    Returns:
        (m,) in grams squared.
    """
    present = np.unique(groups)
    parts = [residuals[:, groups == group].reshape(len(residuals), -1) for group in present]
    losses = np.stack([(part**2).sum(axis=1) for part in parts])  # (groups, m)
    falls = np.zeros(len(residuals))
    for part, loss in zip(parts, losses, strict=True):
        # With dates of one group only there are no others to rank by.
        elsewhere = losses.sum(axis=0) - loss if len(parts) > 1 else loss
        falls += _falls_on_one_group(part, loss, np.argsort(elsewhere, kind="stable"))
    return falls


def _falls_on_one_group(part: Array, loss: Array, ranking: NDArray[np.intp]) -> Array:
    """(m,) falls on (m, k) residuals with (m,) losses, for blends of the first SIZE other trials of a ranking."""
    size = min(SIZE, len(part) - 1)
    best, sum_of_best = ranking[:size], part[ranking[:size]].sum(axis=0)
    falls = _falls(part @ sum_of_best, float(sum_of_best @ sum_of_best), loss, size)
    for i in best:  # a trial joins a blend without itself: the next one of the ranking takes its place
        others = sum_of_best - part[i] + part[ranking[size]]
        falls[i] = _falls(part[i] @ others, float(others @ others), loss[i], size)
    return falls


def _falls(inner: Array, blend: float, loss: Array, size: int) -> Array:
    """|S / k|^2 - |(S + r) / (k + 1)|^2 with S the sum of k members, from S.r, |S|^2, |r|^2 and k."""
    return np.asarray(blend / size**2 - (blend + 2 * inner + loss) / (size + 1) ** 2)
