"""What the blends of one sweep predict for the dates that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.estimate.scores import evaluate
from ensemble.members.load import load_members
from ensemble.members.pool import Pool
from ensemble.weighting.auto import procedure
from ensemble.weighting.library import Library, combine
from ensemble.weighting.methods import METHODS
from ensemble.weighting.nested import deal, nested_predictions
from ensemble.weighting.options import DEFAULT_METHOD, Options
from ensemble.weighting.procedure import Fit, whole
from forage.outer_cv.refit import refit_members
from forage.outer_cv.run_sweeps import OuterRun
from forage.outer_cv.strategies import OURS
from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.files import Folder
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.targets import TARGETS, WEIGHTS, Array
from trainables.images.d4 import tta_elements
from trainables.recipe.sections import TtaName

START: Final = "start portfolio"
SINGLE: Final = "best single"
REFITTED: Final = ", refitted"
"""Added to the name of a selection whose members are trained again on all dates that the sweep has seen."""
_REPEATS: Final = 5


@dataclass(frozen=True)
class Selection:
    """One way to choose a blend from a sweep, scored on the dates that the sweep has not seen.

    Attributes:
        losses: weighted residual sum of squares on each outer date.
        nested: the nested score of the blend on the other dates; None where they are one date only.
        seconds: of the trials that the blend was chosen from.
    """

    losses: dict[str, float]
    nested: float | None
    seconds: float


@dataclass(frozen=True)
class ScoredSweep:
    """All selections of one sweep.

    Attributes:
        outer_run: the sweep.
        selections: by name: `START`, `SINGLE`, the methods of `METHODS` and the default one; `START` and the default
            method also `REFITTED`, where no member trains its backbone.
        interval: 95 % interval that `forage ensemble` quotes with the default method; None where there is none.
    """

    outer_run: OuterRun
    selections: dict[str, Selection]
    interval: tuple[float, float] | None


def score_sweep(outer_run: OuterRun, dataset: Dataset, tta: TtaName) -> ScoredSweep:
    """Choose blends of a finished sweep in every way and score each on the sweep's outer dates.

    Args:
        outer_run: the sweep.
        dataset: labelled images, those of outer dates included.
        tta: test-time augmentation of the OOF and of the predictions.

    Raises:
        InputError: the run directory is damaged.
        JobError: training a member again fails.
    """
    pool = load_members([outer_run.run], tta)
    library = Library.of(pool)
    fits = _fits(np.array([member.trial in outer_run.start for member in pool.members]))
    nested = _nested(library, fits)
    outer = _Outer(outer_run, pool, dataset, tta)
    weights = {name: fit(library) for name, fit in fits.items()}
    predictions = outer.predictions(outer_run.run.outer, np.ones(len(pool.members), dtype=bool))
    selections = {}
    for name, of_members in weights.items():
        used = outer_run.start if name == START else outer_run.seconds
        seconds = sum(outer_run.seconds[trial] for trial in used)
        selections[name] = Selection(outer.losses(of_members, predictions), nested.get(name), seconds)
    if outer_run.sweep == OURS:
        for name in (START, DEFAULT_METHOD):
            if name in weights and (again := outer.refitted(weights[name])) is not None:
                selections[name + REFITTED] = replace(selections[name], losses=outer.losses(weights[name], again))
    return ScoredSweep(outer_run, selections, evaluate(library, procedure(DEFAULT_METHOD, Options())).interval)


def _fits(start: NDArray[np.bool_]) -> dict[str, Fit]:
    fits: dict[str, Fit] = {SINGLE: _best_single}
    if start.any():
        equal = np.repeat((start / start.sum())[:, None], len(TARGETS), axis=1)
        fits[START] = lambda _: equal
    return fits | {name: whole(procedure(name, Options())) for name in (*METHODS, DEFAULT_METHOD)}


def _best_single(library: Library) -> Array:
    weights = np.zeros((len(library), len(TARGETS)))
    weights[int(library.gram.diagonal.argmin())] = 1.0
    return weights


def _nested(library: Library, fits: Mapping[str, Fit]) -> dict[str, float]:
    """Nested score of every selection."""
    if len(library.days) < 2:
        return {}
    predicted = nested_predictions(library, fits, deal(library, _REPEATS, np.random.default_rng(0)))
    return {
        name: float(np.mean([weighted_r2(library.truth, repeat) for repeat in repeats]))
        for name, repeats in predicted.items()
    }


class _Outer:
    """The images of the outer dates of one sweep.

    Args:
        outer_run: the sweep.
        pool: its m members.
        dataset: labelled images.
        tta: test-time augmentation of the predictions.

    Raises:
        InputError: members have predicted different images of outer dates.
    """

    def __init__(self, outer_run: OuterRun, pool: Pool, dataset: Dataset, tta: TtaName) -> None:
        self.outer_run, self.members, self.dataset, self.tta = outer_run, pool.members, dataset, tta
        self.ids = OofTable.read(outer_run.run.outer, f"{self.members[0].trial}.parquet").image_ids
        row = {image: i for i, image in enumerate(dataset.ids)}
        rows = [row[image] for image in self.ids]
        self.truth, self.dates = dataset.targets[rows], dataset.dates[rows]

    def predictions(self, folder: Folder, wanted: NDArray[np.bool_]) -> Array:
        """(m, n, 5) what the wanted members predict, in grams; 0 for the others."""
        result = np.zeros((len(self.members), len(self.ids), len(TARGETS)))
        for i in np.flatnonzero(wanted):
            table = OofTable.read(folder, f"{self.members[i].trial}.parquet")
            if table.image_ids != self.ids:
                trial = self.members[i].trial
                raise InputError(f"{folder}: {trial} has predicted other images of outer dates; run it anew")
            result[i] = table.mean(tta_elements(self.tta))
        return result

    def refitted(self, weights: Array) -> Array | None:
        """(m, n, 5) what the members with a weight predict, each as one model of all other dates; None where a member
        trains its backbone."""
        used = np.asarray(weights.any(axis=1))
        if not refit_members(self.outer_run, self.dataset, [self.members[i] for i in np.flatnonzero(used)]):
            return None
        return self.predictions(self.outer_run.run.refitted, used)

    def losses(self, weights: Array, predictions: Array) -> dict[str, float]:
        """Weighted residual sum of squares of a blend on each outer date."""
        residuals = (combine(weights, predictions) - self.truth) ** 2 @ WEIGHTS
        return {str(date): float(residuals[self.dates == date].sum()) for date in self.outer_run.outer}
