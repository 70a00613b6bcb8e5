"""What the blends of one sweep predict for the dates that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from forage.outer_cv.run_sweeps import OuterRun
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.targets import TARGETS, WEIGHTS, Array
from trainables.images.d4 import tta_elements
from trainables.recipe.sections import TtaName

START: Final = "start portfolio"
SINGLE: Final = "best single"
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
        selections: by name: `START`, `SINGLE`, the methods of `METHODS` and the default one.
        interval: 95 % interval that `forage ensemble` quotes with the default method; None where there is none.
    """

    outer_run: OuterRun
    selections: dict[str, Selection]
    interval: tuple[float, float] | None


def score_sweep(outer_run: OuterRun, truth: Mapping[str, Array], dates: Mapping[str, str], tta: TtaName) -> ScoredSweep:
    """Choose blends of a finished sweep in every way and score each on the sweep's outer dates.

    Args:
        outer_run: the sweep.
        truth: (5,) grams of every image, by id.
        dates: of every image, by id.
        tta: test-time augmentation of the OOF and of the predictions.

    Raises:
        InputError: the run directory is damaged.
    """
    pool = load_members([outer_run.run], tta)
    library = Library.of(pool)
    start = np.array([member.trial in outer_run.start for member in pool.members])
    fits = _fits(start)
    nested = _nested(library, fits)
    ids, predictions = _outer_predictions(outer_run, pool, tta)
    grams = np.stack([truth[i] for i in ids])
    day = np.array([dates[i] for i in ids])
    selections = {}
    for name, fit in fits.items():
        residuals = (combine(fit(library), predictions) - grams) ** 2 @ WEIGHTS
        losses = {str(date): float(residuals[day == date].sum()) for date in outer_run.outer}
        used = outer_run.start if name == START else outer_run.seconds
        selections[name] = Selection(losses, nested.get(name), sum(outer_run.seconds[trial] for trial in used))
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


def _outer_predictions(outer_run: OuterRun, pool: Pool, tta: TtaName) -> tuple[list[str], Array]:
    """Ids of the images of outer dates, and (m, n, 5) what each member predicts for them, in grams."""
    tables = [OofTable.read(outer_run.run.outer, f"{m.trial}.parquet") for m in pool.members]
    ids = tables[0].image_ids
    if other := next((m for m, t in zip(pool.members, tables, strict=True) if t.image_ids != ids), None):
        raise InputError(f"{outer_run.run}: {other.trial} has predicted other images of outer dates; run it anew")
    return ids, np.stack([table.mean(tta_elements(tta)) for table in tables])
