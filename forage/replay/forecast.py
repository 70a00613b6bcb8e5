"""What a sweep will reach and cost, by bootstrap over recorded trials: the calculation behind `forage plan`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from forage.replay.table import Table
from pasture.errors import InputError
from pasture.targets import Array
from tune.pruning.pruners import make_pruner
from tune.records.ledger import Ledger

RESAMPLES: Final = 200
DRIVER_SECONDS: Final = 0.05
"""What the one driver of a sweep spends on a trial: 20 ms in Ray and 25 ms in TPE (docs/reference/benchmarks.md)."""

SHARES: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the time, at which the forecast is given."""

_MOST_DRAWS: Final = 5_000_000


@dataclass(frozen=True)
class Recorded:
    """How one trial ended.

    Attributes:
        seconds: that it trained.
        score: out-of-fold R2; NaN where it was not complete.
        status: COMPLETE, PRUNED or FAILED.
        start: whether it belongs to the start portfolio, which runs first.
    """

    seconds: float
    score: float
    status: Literal["COMPLETE", "PRUNED", "FAILED"]
    start: bool


@dataclass(frozen=True)
class Range:
    """Mean and 95 % interval over the resamples; NaN where no resample has a value."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Array) -> Range:
        known = values[np.isfinite(values)]
        if not len(known):
            return cls(math.nan, math.nan, math.nan)
        low, high = np.percentile(known, [2.5, 97.5])
        return cls(float(known.mean()), float(low), float(high))


@dataclass(frozen=True)
class Moment:
    """The state of the sweep after some hours.

    Attributes:
        hours: since its start, the mean over the resamples.
        ended: trials that have ended, pruned and failed ones included.
        pruned: of these.
        best: best score of a complete trial.
    """

    hours: float
    ended: Range
    pruned: Range
    best: Range


@dataclass(frozen=True)
class Forecast:
    """What a sweep will reach and cost.

    Attributes:
        moments: by time.
        seconds: of a trial.
        worker_hours: that trials compute, all workers together.
        workers: that one driver keeps busy; fewer than asked for where trials are short.
        recorded: number of recorded trials.
        best_recorded: their best score, which the forecast cannot exceed.
    """

    moments: list[Moment]
    seconds: Range
    worker_hours: Range
    workers: int
    recorded: int
    best_recorded: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def recorded_in_run(ledger: Ledger) -> list[Recorded]:
    """The ended trials of a run."""
    return [
        Recorded(
            seconds=sum(report["seconds"] for report in record.curve),
            score=math.nan if record.status != "COMPLETE" or record.score is None else record.score,
            status=record.status,  # type: ignore[arg-type]
            start=record.origin == "start",
        )
        for record in ledger.ended()
        if record.curve
    ]


def recorded_in_table(table: Table) -> list[Recorded]:
    """The recipes of a table on every split, searched ones pruned by ASHA in the order of the table."""
    result = []
    for split in table.splits:
        known = [(entry, t) for entry, t in zip(table.entries, split.trained, strict=True) if t is not None]
        pruner = make_pruner("asha", max(len(trained.scores) for _, trained in known))
        for number, (entry, trained) in enumerate(known):
            epochs = len(trained.scores)
            for epoch in pruner.rungs:
                report = {"epoch": epoch, "score": trained.scores[min(epoch, epochs) - 1]}
                if epoch < epochs and not pruner.judge(str(number), report, not entry.start):
                    result.append(Recorded(float(trained.seconds[:epoch].sum()), math.nan, "PRUNED", False))
                    break
            else:
                whole = float(trained.seconds.sum())
                result.append(Recorded(whole, float(trained.scores[-1]), "COMPLETE", entry.start))
    return result


def forecast(
    recorded: Sequence[Recorded], workers: int, hours: float | None, trials: int | None, starts: int, seed: int = 0
) -> Forecast:
    """Simulate sweeps whose trials end as recorded ones did.

    Each of the resamples draws the recorded trials with replacement, as a bootstrap, then lets the workers run trials
    that are drawn from those: first the start portfolio, then searched ones. So the intervals contain the luck of the
    few recorded trials and that of the sweep. The search does not improve within a simulated sweep beyond what it
    did in the recorded one.

    Args:
        recorded: trials.
        workers: number of trials at a time.
        hours: when the sweep ends; None for when the trials have ended.
        trials: how many there are; None for no limit.
        starts: how many of them are start trials.
        seed: of the draws.

    Raises:
        InputError: neither `hours` nor `trials`, no recorded trial that was searched, or too many trials.
    """
    searched = [trial for trial in recorded if not trial.start]
    if not searched:
        raise InputError("no trial that the search proposed has ended in the recorded run; record more trials")
    if hours is None and trials is None:
        raise InputError("give --hours, --trials or both")
    mean = float(np.mean([trial.seconds for trial in searched]))
    busy = max(1, min(workers, int(mean / DRIVER_SECONDS)))
    limit = math.inf if hours is None else 3600 * hours
    longest = max(trial.seconds for trial in recorded)
    horizon = min(limit, math.inf if trials is None else 2 * mean * trials / busy + 3 * longest)
    draws = busy * horizon / mean
    if draws > _MOST_DRAWS:
        raise InputError(f"some {draws:.0f} trials of {mean:.1f} s: too many to simulate; give --trials or fewer hours")
    resamples = max(20, min(RESAMPLES, int(10 * _MOST_DRAWS / draws)))
    generator = np.random.default_rng(seed)
    first = [trial for trial in recorded if trial.start]
    sweeps = [_sweep(first, searched, busy, horizon, trials, starts, generator) for _ in range(resamples)]
    ends = np.array([limit if trials is None else min(limit, sweep.ends.max()) for sweep in sweeps])
    return Forecast(
        moments=[_moment(sweeps, share * ends) for share in SHARES],
        seconds=Range.of(np.array([sweep.seconds.mean() for sweep in sweeps])),
        worker_hours=Range.of(np.array([sweep.computed(end) for sweep, end in zip(sweeps, ends, strict=True)]) / 3600),
        workers=busy,
        recorded=len(recorded),
        best_recorded=float(np.nanmax([trial.score for trial in recorded])),
    )


@dataclass(frozen=True, eq=False)
class _Sweep:
    """The trials of one simulated sweep, in the order in which they end: seconds, ends (s) and scores."""

    seconds: Array
    ends: Array
    scores: Array
    pruned: Array

    def computed(self, end: float) -> float:
        """Seconds that trials compute until `end`, in which the last ones are stopped."""
        begins = self.ends - self.seconds
        return float(np.clip(np.minimum(self.ends, end) - begins, 0, None).sum())


def _sweep(
    first: Sequence[Recorded],
    searched: Sequence[Recorded],
    workers: int,
    horizon: float,
    trials: int | None,
    starts: int,
    generator: np.random.Generator,
) -> _Sweep:
    pools = [[pool[i] for i in generator.integers(len(pool), size=len(pool))] for pool in (searched, first) if pool]
    arrays = [
        np.array([(trial.seconds, trial.score, trial.status == "PRUNED") for trial in pool], dtype=float)
        for pool in pools
    ]
    rounds = max(2, math.ceil(1.2 * horizon / arrays[0][:, 0].mean()))
    drawn = arrays[0][generator.integers(len(arrays[0]), size=(rounds, workers))]
    while drawn[:, :, 0].sum(axis=0).min() < horizon:
        drawn = np.concatenate([drawn, arrays[0][generator.integers(len(arrays[0]), size=(rounds, workers))]])
    flat = drawn.reshape(-1, 3)  # start trials are dealt to the workers in turn
    if len(arrays) > 1:
        flat[:starts] = arrays[1][generator.integers(len(arrays[1]), size=len(flat[:starts]))]
    ends = drawn[:, :, 0].cumsum(axis=0).ravel()
    begun = np.argsort(ends - flat[:, 0], kind="stable")[:trials]
    begun = begun[(ends - flat[:, 0])[begun] < horizon]
    order = begun[np.argsort(ends[begun], kind="stable")]
    return _Sweep(flat[order, 0], ends[order], flat[order, 1], flat[order, 2])


def _moment(sweeps: Sequence[_Sweep], seconds: Array) -> Moment:
    ended = [int(np.searchsorted(s.ends, at, side="right")) for s, at in zip(sweeps, seconds, strict=True)]
    best = [np.fmax.reduce(sweep.scores[:count], initial=np.nan) for sweep, count in zip(sweeps, ended, strict=True)]
    pruned = [sweep.pruned[:count].sum() for sweep, count in zip(sweeps, ended, strict=True)]
    return Moment(
        hours=float(seconds.mean()) / 3600,
        ended=Range.of(np.array(ended, dtype=float)),
        pruned=Range.of(np.array(pruned, dtype=float)),
        best=Range.of(np.array(best, dtype=float)),
    )
