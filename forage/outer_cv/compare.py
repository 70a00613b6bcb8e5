"""The table of an outer cross-validation: every strategy on all outer dates, with errors over dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble.weighting.options import DEFAULT_METHOD
from forage.outer_cv.score_blends import REFITTED, SINGLE, START, ScoredSweep
from forage.outer_cv.strategies import ONE_RECIPE, OURS
from pasture.dataset import Dataset
from pasture.metric import total_ss
from pasture.targets import WEIGHTS, Array

REFERENCE = f"{OURS}: {DEFAULT_METHOD}"
BASELINE = "target means"
"""Each target's mean over the dates that a sweep has seen."""


@dataclass(frozen=True)
class Row:
    """One strategy.

    Attributes:
        strategy: what it is.
        outer: R2 over all outer dates, the mean over seeds.
        error: its standard error over dates.
        seeds: standard deviation of R2 between seeds; None with one seed.
        difference: `outer` less that of the reference.
        difference_error: its standard error, from differences paired by date.
        nested: the nested score on the dates that each sweep has seen, the mean over sweeps.
        seconds: of the trials that a blend was chosen from, the mean over sweeps.
    """

    strategy: str
    outer: float
    error: float
    seeds: float | None
    difference: float
    difference_error: float
    nested: float | None
    seconds: float

    @property
    def optimism(self) -> float | None:
        """By how much the nested score is higher than the outer one."""
        return None if self.nested is None else self.nested - self.outer


@dataclass(frozen=True)
class Table:
    """The result of an outer cross-validation.

    Attributes:
        rows: the reference first, then the others from the best to the worst.
        interval: ends of the 95 % interval that `forage ensemble` quotes for the reference, the mean over sweeps.
        agrees: whether the outer score of the reference lies in it.
        dates, images, splits, seeds: how much was compared.
    """

    rows: list[Row]
    interval: tuple[float, float] | None
    agrees: bool | None
    dates: int
    images: int
    splits: int
    seeds: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        rows = [asdict(row) | {"optimism": row.optimism} for row in self.rows]
        return {**asdict(self), "reference": self.rows[0].strategy, "rows": rows}


def compare(scored: Sequence[ScoredSweep], dataset: Dataset) -> Table:
    """Pool the losses of every strategy over all outer dates and compare them with the reference.

    R2 is that of all outer dates together: one sum of squares about one mean. Standard errors are those of the
    jackknife over dates (leave one date out of losses and truth alike), of R2 and of differences between strategies,
    whose losses are paired by date.

    Args:
        scored: every sweep.
        dataset: the truth.
    """
    losses: dict[str, dict[int, dict[str, float]]] = {}
    nested: dict[str, list[float | None]] = {}
    seconds: dict[str, list[float]] = {}
    for sweep in scored:
        for selection, value in sweep.selections.items():
            if name := _strategy(sweep.outer_run.sweep, selection):
                losses.setdefault(name, {}).setdefault(sweep.outer_run.seed, {}).update(value.losses)
                nested.setdefault(name, []).append(value.nested)
                seconds.setdefault(name, []).append(value.seconds)
        if sweep.outer_run.sweep == OURS:
            by_seed = losses.setdefault(BASELINE, {}).setdefault(sweep.outer_run.seed, {})
            by_seed.update(_baseline(dataset.hold_out(sweep.outer_run.outer)))
    nested[BASELINE], seconds[BASELINE] = [], [0.0]
    by_date = _Dates(dataset)
    # A selection that some sweep does not have, such as a start portfolio that has failed, has no score on all dates.
    scores = {name: by_date.replicates(by_seed) for name, by_seed in losses.items() if by_date.whole(by_seed)}
    reference = scores[REFERENCE]
    rows = [
        _row(name, scores[name], reference, nested[name], seconds[name])
        for name in sorted(scores, key=lambda name: (name != REFERENCE, -scores[name].whole.mean()))
    ]
    bounds = [sweep.interval for sweep in scored if sweep.outer_run.sweep == OURS and sweep.interval]
    interval = (float(np.mean([b[0] for b in bounds])), float(np.mean([b[1] for b in bounds]))) if bounds else None
    agrees = None if interval is None else interval[0] <= rows[0].outer <= interval[1]
    seeds = {sweep.outer_run.seed for sweep in scored}
    splits = len({sweep.outer_run.outer for sweep in scored if sweep.outer_run.seed == min(seeds)})
    images = int(dataset.scored.sum())
    return Table(rows, interval, agrees, len(by_date.dates), images, splits, len(seeds))


def _baseline(dataset: Dataset) -> dict[str, float]:
    """Loss of the target means on each outer date."""
    outer = dataset.outer & dataset.measured
    loss = (dataset.targets[outer] - dataset.targets[dataset.scored].mean(axis=0)) ** 2 @ WEIGHTS
    return {date: float(loss[dataset.dates[outer] == date].sum()) for date in dataset.outer_dates}


@dataclass(frozen=True)
class _Scores:
    """R2 of one strategy: (seeds,) of all dates, (seeds, dates) without each date."""

    whole: Array
    without: Array


class _Dates:
    """Sums of squares on each date."""

    def __init__(self, dataset: Dataset) -> None:
        self.truth, self.of_image = dataset.targets[dataset.scored], dataset.dates[dataset.scored]
        self.dates = sorted(set(self.of_image.tolist()))
        self.total = total_ss(self.truth)
        self.total_without = np.array([total_ss(self.truth[self.of_image != date]) for date in self.dates])

    def whole(self, by_seed: Mapping[int, Mapping[str, float]]) -> bool:
        return all(set(losses) == set(self.dates) for losses in by_seed.values())

    def replicates(self, by_seed: Mapping[int, Mapping[str, float]]) -> _Scores:
        loss = np.array([[losses[date] for date in self.dates] for losses in by_seed.values()])
        without = loss.sum(axis=1, keepdims=True) - loss
        return _Scores(1 - loss.sum(axis=1) / self.total, 1 - without / self.total_without)


def _row(
    name: str, scores: _Scores, reference: _Scores, nested: Sequence[float | None], seconds: Sequence[float]
) -> Row:
    known = [score for score in nested if score is not None]
    return Row(
        strategy=name,
        outer=float(scores.whole.mean()),
        error=_jackknife(scores.without.mean(axis=0)),
        seeds=float(scores.whole.std(ddof=1)) if len(scores.whole) > 1 else None,
        difference=float(scores.whole.mean() - reference.whole.mean()),
        difference_error=_jackknife(scores.without.mean(axis=0) - reference.without.mean(axis=0)),
        nested=float(np.mean(known)) if known else None,
        seconds=float(np.mean(seconds)),
    )


def _jackknife(without: Array) -> float:
    """Standard error of a figure from its values without each of (dates,) (B. Efron, C. Stein: The Jackknife Estimate
    of Variance, Annals of Statistics 9, 1981)."""
    n = len(without)
    return float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))


def _strategy(sweep: str, selection: str) -> str | None:
    """Name of a strategy in the table; None for one that is not shown."""
    if sweep == ONE_RECIPE:
        return sweep if selection == SINGLE else None
    if sweep != OURS and selection not in (DEFAULT_METHOD, "uniform", START):
        return None
    if sweep == OURS and selection.removesuffix(REFITTED) == START:
        return selection
    return f"{sweep}: {selection}"
